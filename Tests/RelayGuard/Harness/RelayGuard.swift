import CMeshABI
import CRelayGuard
import Glibc
import MeshModel
import OpenSSLTLS

/// What tools/guards runs: two proxies on loopback and applications at both ends, who do a known number of things in a
/// known order. Under callgrind the proxies are threads of this process, and each phase's instructions are dumped under
/// its name; with `processes EXECUTABLE INTERPOSER FILE` they are the shipped ones, and each phase's allocations and
/// system calls are printed. One line a phase: its name and how many units it had.
@main
enum RelayGuard {
    static func main() {
        do { try run(CommandLine.arguments) } catch {
            print("relay-guard: \(error)")
            exit(1)
        }
    }

    private static func run(_ arguments: [String]) throws {
        guard arguments.count == 2 && arguments[1] == "threads" || arguments.count == 5 && arguments[1] == "processes"
        else {
            print("usage: relay-guard threads | processes EXECUTABLE INTERPOSER FILE")
            exit(64)
        }
        try TLSLibrary.prepare()
        let listener = try GuardSocket.listening(SocketAddress(GuardMesh.serverAddress, 0))
        var captured = mesh_socket()
        captured.workload = GuardMesh.client.rawValue
        captured.source = SocketAddress(GuardMesh.clientAddress, 0).meshEndpoint
        captured.destination = GuardSocket.local(of: listener).meshEndpoint
        let counters = arguments.count == 5 ? try Counters(path: arguments[4], captured: captured) : nil
        let place: GuardNode.Place =
            counters == nil
            ? .threads(captured: captured)
            : .process(executable: arguments[2], interposer: arguments[3], shared: arguments[4])
        let mesh = try GuardMesh()
        let a = try GuardNode("a", mesh: mesh, place: place)
        defer { a.stop() }
        let b = try GuardNode("b", mesh: mesh, place: place)
        defer { b.stop() }
        let exchange = Exchange(capture: a.capture, listener: listener)
        try Phases(exchange: exchange, tunnels: TunnelOpenings(mesh), counters: counters).run()
    }
}

/// Everything that is counted, in order, each after a warm-up of its own kind.
struct Phases {
    let exchange: Exchange
    let tunnels: TunnelOpenings
    let counters: Counters?

    func run() throws {
        let first = try exchange.open()
        let others = try (1..<32).map { _ in try exchange.open() }
        let all = [first] + others
        // Dial sockets in the place of those that were used come meanwhile, however busy the machine is.
        sleep(2)
        try phase("request_1", warmUp: 50, units: 400) { try exchange.request([first]) }
        try phase("request_32", warmUp: 5, units: 30, each: 32) { try exchange.request(all) }
        let piece = 8 << 20
        // Enough of them that what a timer allocates now and then is less than one for each; callgrind counts none.
        let pieces = counters == nil ? 3 : 12
        try phase("down", warmUp: 2, units: pieces, each: 8) {
            try exchange.move(piece, from: first.server, to: first.client)
        }
        try phase("up", warmUp: 2, units: pieces, each: 8) {
            try exchange.move(piece, from: first.client, to: first.server)
        }
        try phase("connection", warmUp: 30, units: 100) { try exchange.close(try exchange.open()) }
        try phase("handshake", warmUp: 10, units: counters == nil ? 50 : 400) { try tunnels.openAndClose() }
    }

    /// `units` times `body`, which does `each` of what the phase counts.
    private func phase(_ name: String, warmUp: Int, units: Int, each: Int = 1, _ body: () throws -> Void) throws {
        // The shipped proxies warm up at full speed: until each buffer has the size that it is used with.
        for _ in 0..<(counters == nil ? warmUp : 10 * warmUp) { try body() }
        let before = counters?.values
        relay_mark("warm-up")
        for _ in 0..<units { try body() }
        relay_mark(name)
        var line = "\(name) \(units * each)"
        if let before, let after = counters?.values {
            for (from, to) in zip(before, after) { line += " \(to - from)" }
        }
        print(line)
    }
}

/// The shared file of the preloaded library.
final class Counters {
    private let shared: UnsafeMutablePointer<relay_shared>

    init(path: String, captured: mesh_socket) throws {
        let size = MemoryLayout<relay_shared>.size
        let file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0o600)
        guard file >= 0, ftruncate(file, off_t(size)) == 0,
            let memory = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), memory != MAP_FAILED
        else { throw GuardFailure("cannot share \(path)") }
        Glibc.close(file)
        shared = memory.bindMemory(to: relay_shared.self, capacity: 1)
        shared.pointee.captured = captured
    }

    /// Of both proxies together: allocations, then calls by kind (`relay_call`).
    var values: [UInt64] {
        let (a, b) = shared.pointee.counts
        let calls = [a.calls, b.calls].map { [$0.0, $0.1, $0.2, $0.3] }
        return [a.allocations + b.allocations] + zip(calls[0], calls[1]).map { $0 + $1 }
    }
}
