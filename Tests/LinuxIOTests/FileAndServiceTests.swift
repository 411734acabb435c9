import Glibc
import LinuxIO
import Testing

@Suite struct FileAndServiceTests {
    @Test func cgroup2IsFoundBesideVersion1AndAlone() throws {
        let hybrid = """
            31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
            32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
            41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
            """
        #expect(try CgroupHierarchy.locate(mountinfo: hybrid).mountPoint == "/sys/fs/cgroup/unified")
        let spaced = "41 31 0:38 / /mnt/a\\040b rw - cgroup2 none rw"
        #expect(try CgroupHierarchy.locate(mountinfo: spaced).mountPoint == "/mnt/a b")
        let subtree = "1 2 0:3 /sub /a rw - cgroup2 x rw\n1 2 0:3 / /b rw - cgroup2 x rw"
        #expect(try CgroupHierarchy.locate(mountinfo: subtree).mountPoint == "/b")
        #expect(throws: IOError.self) { try CgroupHierarchy.locate(mountinfo: "1 2 0:3 / / rw - ext4 x rw") }
    }

    @Test func cgroupsAreMadeNamedAndRemoved() throws {
        let hierarchy = try CgroupHierarchy.locate()
        let top = "/culvert-test-\(getpid())-tree"
        try hierarchy.create(top + "/a/b")
        defer { for path in [top + "/a/b", top + "/a", top] { try? hierarchy.remove(path) } }
        #expect(try hierarchy.children(of: top) == [top + "/a"])
        #expect(try hierarchy.id(of: top) != hierarchy.id(of: top + "/a"))
        #expect(try !hierarchy.isPopulated(top))
        #expect(try hierarchy.processes(in: top).isEmpty)
    }

    @Test func replacedFilesAreSeenByAWatch() throws {
        let directory = "/tmp/culvert-watch-\(getpid())"
        try TextFile.createDirectory(directory)
        defer {
            unlink(directory + "/file")
            rmdir(directory)
        }
        let watch = try FileWatch()
        let id = try watch.add(directory, .content)
        let none = try watch.events()
        #expect(none.isEmpty)
        try TextFile.replace(directory + "/file", with: Array("one".utf8))
        let events = try watch.events()
        #expect(events.contains { $0.watch == id && $0.name == "file" && $0.changes.contains(.movedIn) })
        #expect(try TextFile.read(directory + "/file") == "one")
    }

    @Test func theServiceManagerIsTold() throws {
        let path = "/tmp/culvert-notify-\(getpid())"
        let server = socket(AF_UNIX, Int32(SOCK_DGRAM_NUMBER), 0)
        let descriptor = FileDescriptor(owning: server)
        defer { unlink(path) }
        try bind(descriptor, path)
        try ServiceNotification(socketPath: path).ready(status: "serving")
        try withUnsafeTemporaryAllocation(byteCount: 256, alignment: 8) { buffer in
            let count = try #require(try descriptor.read(into: buffer))
            #expect(String(decoding: buffer[..<count], as: UTF8.self) == "READY=1\nSTATUS=serving\n")
        }
        try ServiceNotification(socketPath: nil).ready(status: "nobody listens")
    }

    private var SOCK_DGRAM_NUMBER: Int { 2 }

    private func bind(_ descriptor: borrowing FileDescriptor, _ path: String) throws {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
        let result = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.bind(descriptor.number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
        try #require(result == 0)
    }
}
