import BPFRuntime
import CMeshABI
import Glibc
import LinuxIO
import Testing

/// What a meshd of another version left pinned, and what becomes of it.
@Suite(.serialized) struct LayoutTests {
    /// A BPF file system, and cgroups to attach to.
    private final class Place {
        private let hierarchy: CgroupHierarchy
        private let name = "culvert-layout-\(getpid())"
        let directory: String

        init() throws {
            hierarchy = try CgroupHierarchy.locate()
            directory = "/run/\(name)"
            try hierarchy.create("/\(name)/sockets")
            try KernelWorld.shell("mkdir -p \(directory) && mount -t bpf bpf \(directory)")
        }

        deinit {
            for layout in names("") { try? KernelPrograms.uninstall(pinDirectory: "\(directory)/\(layout)") }
            try? KernelWorld.shell("umount \(directory); rmdir \(directory)")
            try? hierarchy.remove("/\(name)/sockets")
            try? hierarchy.remove("/\(name)")
        }

        func load(_ layout: String) throws -> KernelPrograms {
            try KernelPrograms(
                pinDirectory: "\(directory)/\(layout)", cgroupRoot: hierarchy.directory("/\(name)"),
                socketsCgroup: hierarchy.directory("/\(name)/sockets"))
        }

        func names(_ layout: String) -> Set<String> {
            Set(((try? TextFile.list("\(directory)/\(layout)")) ?? []).map(\.name))
        }

        func makeHash(_ map: String, layout: String, key: Int, value: Int, entries: Int) throws {
            try KernelWorld.shell(
                """
                mkdir -p \(directory)/\(layout) && /usr/sbin/bpftool map create \(directory)/\(layout)/map_\(map) \
                type hash key \(key) value \(value) entries \(entries) name \(map) flags 1
                """)
        }
    }

    private let address = mesh_address(word: (1, 2, 3, 4))

    @Test func mapsAndLinksOfAnotherLayoutAreTakenOverBothWays() throws {
        let place = try Place()
        let first = try place.load("v7")
        try first.nodes.put(address, 5)
        let names = place.names("v7")
        #expect(names.contains("link_mesh_connect4") && names.contains("map_mesh_own"))
        // The first one stays open: its meshd may still be ending.
        let second = try place.load("v8")
        #expect(place.names("v8") == names && !place.names("").contains("v7"))
        #expect(try second.nodes.get(address) == 5 && second.faults().isEmpty)
        try second.nodes.put(address, 6)
        #expect(try first.nodes.get(address) == 6, "it is another map")
        let third = try place.load("v7")
        #expect(place.names("v7") == names && place.names("v8").isEmpty)
        #expect(try third.nodes.get(address) == 6 && third.faults().isEmpty)
    }

    @Test func aTableOfAnotherShapeIsCopied() throws {
        let place = try Place()
        try place.makeHash("mesh_nodes", layout: "v3", key: 16, value: 8, entries: 77)
        let key = "1 0 0 0 2 0 0 0 3 0 0 0 4 0 0 0"
        try KernelWorld.shell(
            "/usr/sbin/bpftool map update pinned \(place.directory)/v3/map_mesh_nodes key \(key) value 5 0 0 0 9 9 9 9")
        let programs = try place.load("v4")
        #expect(try programs.nodes.get(address) == 5)
        #expect(place.names("v3").isEmpty && programs.faults().isEmpty)
    }

    @Test func connectionsOnTheirWayOfAnotherShapeAreRefusedByName() throws {
        let place = try Place()
        try place.makeHash("mesh_handover", layout: "v3", key: 48, value: 8, entries: 10)
        let error = #expect(throws: BPFError.self) { _ = try place.load("v4") }
        #expect(error?.object.hasSuffix("v3/map_mesh_handover") == true)
        #expect(!place.names("v3").isEmpty, "what is at work is left alone")
    }

    @Test func whatALaterVersionPinnedIsRemoved() throws {
        let place = try Place()
        try place.makeHash("mesh_later", layout: "v4", key: 4, value: 4, entries: 1)
        let programs = try place.load("v4")
        #expect(!place.names("v4").contains("map_mesh_later") && programs.faults().isEmpty)
    }
}
