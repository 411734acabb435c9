import FoundationEssentials
import Testing

/// The suites of this target change one shared lab: they run one after the other.
@Suite("End to end", .serialized)
struct EndToEnd {}

/// What Tests/Applications/traffic_client.py prints; each verb fills its own fields.
struct Traffic: Decodable {
    struct Name: Decodable, Equatable {
        let address: String
        let port: Int
    }
    struct Server: Decodable {
        let accepted: Name
        let getpeername: Name
        let getsockname: Name
    }
    struct Download: Decodable {
        let bytes: UInt64
        let intact: Bool
        let end: String
        let seconds: Double
    }

    var bytes: UInt64?
    var intact: Truth?
    var end: String?
    var ends: [String]?
    var seconds: Double?
    var outcome: String?
    var answered: Int?
    var ended: Int?
    var meanwhile: Download?
    var server: Server?
    var getpeername: Name?
    var getsockname: Name?
    var result: String?
    var connect: String?
    var microseconds: Double?
    var works: Bool?
    var worked: Int?
    var outcomes: [String: Int]?
    var broken: Bool?
    var longest: Double?

    /// `intact` is a boolean for one transfer and a count for many.
    enum Truth: Decodable, Equatable {
        case one(Bool)
        case count(Int)

        init(from decoder: any Decoder) throws {
            let container = try decoder.singleValueContainer()
            if let value = try? container.decode(Bool.self) {
                self = .one(value)
            } else {
                self = .count(try container.decode(Int.self))
            }
        }
    }

    static let yes = Truth.one(true)

    /// Starts the traffic servers: `echo` (node b's w2, which shares the node's address), `inner` (w3, own namespace)
    /// and one on node a's w3.
    static func startServers() throws { try servers.get() }

    private static let servers = Result {
        let command = "\(Lab.python) \(Lab.applications)/traffic_server.py 7000"
        try Lab.start("traffic-server", "b", "w2", command)
        try Lab.start("traffic-server-inner", "b", "w3", command)
        try Lab.start("traffic-server-a", "a", "w3", command)
        for service in ["echo", "inner"] {
            guard Shell.waits(15, until: { (try? client("ping-pong 1", to: service)) != nil }) else {
                throw CommandFailure(
                    command: service, result: CommandResult(status: 1, output: "the traffic server does not answer"))
            }
        }
    }

    /// The client as a workload of node a.
    static func client(
        _ verb: String, to host: String = "echo", port: Int = 7_000, from workload: String = "w1", seconds: Int = 60
    ) throws -> Traffic {
        try decode(Lab.output("a", workload, command(verb, host, port), seconds: seconds))
    }

    /// The client beside the test: `ending` waits for it and gives what it printed.
    static func beginning(
        _ name: String, _ verb: String, to host: String = "echo", port: Int = 7_000, from workload: String = "w1",
        byDNS: Bool = false
    ) throws {
        try Shell.output("rm -f \(Lab.state)/log/\(name).log")
        try Lab.start(name, "a", workload, command(verb, host, port), byDNS: byDNS)
    }

    static func ending(_ name: String, within seconds: Double) throws -> Traffic {
        let log = "\(Lab.state)/log/\(name).log"
        _ = try Shell.waits(seconds) { try Shell.run("tail -n 1 \(log)").output.contains("}") }
        try Lab.stop(name)
        return try decode(Shell.output("tail -n 1 \(log)"))
    }

    private static func command(_ verb: String, _ host: String, _ port: Int) -> String {
        "\(Lab.python) \(Lab.applications)/traffic_client.py \(host) \(port) \(verb)"
    }

    private static func decode(_ line: String) throws -> Traffic {
        try JSONDecoder().decode(Traffic.self, from: Data(line.utf8))
    }
}
