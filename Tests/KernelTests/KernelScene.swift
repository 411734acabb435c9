import BPFRuntime
import CMeshABI
import FoundationEssentials
import Glibc
import LinuxIO

/// The programs at work on a small world of their own: a cgroup tree, a network namespace, and one process that plays
/// applications and proxy in it (driver/). Run once; the tests read what happened.
final class KernelScene {
    let answers: [String: Answer]
    let events: [mesh_event]
    let live: [mesh_event]
    let counters: [UInt64]
    let handoversLeft: Int
    let vouchesLeft: Int
    let workloadHandovers: UInt32
    /// By cgroup, of those that were made while the programs ran: what they were marked as.
    let marks: [String: UInt8]
    /// Who listens: before the older listeners are looked for, after that (twice), after some have closed, at the end.
    let owners: [[Owner]]
    /// Who listens once it was looked at which sockets processes of w5 hold.
    let heldOwners: [Owner]
    /// Connections older than their workload: at the first look, and at the second.
    let older: [[mesh_older]]
    let otherFileSystem: BPFError?
    let pinsLeft: Bool

    enum Answer: Decodable {
        case code(Int)
        case facts(Facts)

        init(from decoder: any Decoder) throws {
            if let code = try? decoder.singleValueContainer().decode(Int.self) {
                self = .code(code)
            } else {
                self = .facts(try Facts(from: decoder))
            }
        }
    }

    struct Facts: Decodable {
        var errno: Int?
        var role: UInt8?
        var workload: UInt32?
        var pid_is_mine: Bool?
        var destination: String?
        var port: UInt16?
        var source: String?
        var source_port: UInt16?
        var command: String?
        var peer: Peer?
        var own: Peer?
        var accept: Peer?
    }

    struct Owner: Equatable {
        var port: UInt16
        var isAnyAddress: Bool
        var workload: UInt32
        var listeners: UInt32
    }

    /// An address, alone or with its port.
    enum Peer: Decodable, Equatable {
        case address(String)
        case endpoint(String, UInt16)

        init(from decoder: any Decoder) throws {
            if let text = try? decoder.singleValueContainer().decode(String.self) {
                self = .address(text)
                return
            }
            var list = try decoder.unkeyedContainer()
            self = .endpoint(try list.decode(String.self), try list.decode(UInt16.self))
        }
    }

    func code(_ name: String) -> Int32? {
        if case .code(let code)? = answers[name] { return Int32(code) }
        return nil
    }

    func facts(_ name: String) -> Facts? {
        if case .facts(let facts)? = answers[name] { return facts }
        return nil
    }

    func counted(_ reason: mesh_reason) -> UInt64 { counters[Int(reason.rawValue)] }

    init() throws {
        let world = try KernelWorld()
        defer { world.remove() }
        let programs = try world.load()
        try world.describe(programs)
        try world.captureInbound(programs)
        try world.exemptPort8087(programs)
        let driver = try world.startDriver()
        _ = try driver.line()
        var live: [mesh_event] = []
        try world.readLive(programs) { live.append($0) }
        self.live = live
        // A second load, as of a meshd that starts again, must not disturb anything.
        let reloaded = try world.load()
        driver.go()
        let heldInodes = try driver.line().split(separator: " ").compactMap { UInt64($0.prefix { $0.isNumber }) }
        var owners = [try Self.owners(programs)]
        try world.addWorkload5(programs)
        for _ in 0..<2 {
            try world.noteListeners(programs)
            owners.append(try Self.owners(programs))
        }
        var older: [[mesh_older]] = []
        let holding = Dictionary(uniqueKeysWithValues: heldInodes.map { ($0, UInt32(5)) })
        for _ in 0..<2 { older.append(try world.findOlder(programs, holding: holding)) }
        self.older = older
        try world.noteListeners(programs)
        heldOwners = try Self.owners(programs)
        try world.end(older[0].filter { UInt16(bigEndian: $0.event.socket.destination.port_be) != 9100 })
        driver.go()
        _ = try driver.line()
        owners.append(try Self.owners(programs))
        driver.go()
        let text = try driver.line()
        try driver.awaitSuccess()
        answers = try JSONDecoder().decode([String: Answer].self, from: Data(text.utf8))
        var events: [mesh_event] = []
        programs.events.read { events.append($0) }
        self.events = events
        counters = try reloaded.counters()
        handoversLeft = try reloaded.handovers.keys().count
        vouchesLeft = try reloaded.vouches.keys().count
        workloadHandovers = try reloaded.workloads.get(1)?.handovers ?? 99
        owners.append(try Self.owners(reloaded))
        self.owners = owners
        var marks: [String: UInt8] = [:]
        for group in world.laterGroups { marks[group] = try reloaded.cgroups.get(world.cgroupID(group))?.state }
        self.marks = marks
        otherFileSystem = world.errorOnOtherFileSystem()
        try KernelPrograms.uninstall(pinDirectory: world.pinDirectory)
        pinsLeft = access(world.pinDirectory, F_OK) == 0
    }
    // MARK: private

    private static func owners(_ programs: KernelPrograms) throws -> [Owner] {
        try programs.owners.keys().compactMap { key in
            try programs.owners.get(key).map {
                Owner(
                    port: UInt16(bigEndian: key.port_be), isAnyAddress: key.address.word.3 == 0,
                    workload: $0.workload, listeners: $0.listeners)
            }
        }.sorted { $0.port < $1.port }
    }
}
