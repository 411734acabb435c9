import FoundationEssentials
import Glibc

/// The lab that the suite runs in, and how a test speaks to it.
enum Lab {
    /// tools/lab of this tree.
    static let root = #filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 }
    static let tool = root + "/tools/lab"
    static let applications = root + "/Tests/Applications"
    static let python = "/usr/bin/python3"

    /// What `tools/lab env` says; brings the lab up first, and down at exit, unless it is up already.
    static let environment: [String: String] = {
        do {
            if try Shell.run("\(tool) status", seconds: 60).status != 0 {
                try Shell.output("\(tool) up", seconds: 1_800)
                atexit { _ = system(Shell.quoted(Lab.tool) + " down") }
            }
            var variables: [String: String] = [:]
            for line in try Shell.output("\(tool) env").split(separator: "\n") {
                let parts = line.split(separator: "=", maxSplits: 1)
                if parts.count == 2 { variables[String(parts[0])] = String(parts[1]) }
            }
            return variables
        } catch {
            print("the lab does not come up: \(error)")
            exit(1)
        }
    }()

    static func variable(_ name: String) -> String { environment[name] ?? "" }

    static var state: String { variable("LAB_STATE") }
    /// The interface by which a node reaches the other.
    static let link = "mesh0"
    static var isIPv6Only: Bool { variable("LAB_IPV6_ONLY") == "yes" }
    static var webURL: String { variable("WEB_URL") }
    static let principalPrefix = "spiffe://lab.example/ns/shop/sa/"

    /// The address of a node or of a workload in a network namespace of its own, IPv4 where the lab has it.
    static func address(_ node: String, _ workload: String = "w1", ipv6: Bool = isIPv6Only) -> String {
        let number = node == "a" ? 1 : 2
        guard workload == "w3" || workload == "w4" else { return ipv6 ? "fd77::\(number)" : "10.77.0.\(number)" }
        return ipv6 ? "fd77:0:0:\(number)::\(workload.dropFirst())" : "10.77.\(number).\(workload.dropFirst())"
    }

    static func bracketed(_ address: String) -> String { address.contains(":") ? "[\(address)]" : address }

    // MARK: Commands

    /// For commands that may fail: standard error is dropped.
    static func run(_ node: String, _ workload: String = "w1", _ command: String, seconds: Int = 60) throws
        -> CommandResult
    {
        try Shell.run("\(line(node, workload, command)) 2>/dev/null", seconds: seconds)
    }

    private static func line(_ node: String, _ workload: String, _ command: String) -> String {
        _ = environment
        // With names by DNS where the command begins with `--dns`.
        let isByDNS = command.hasPrefix("--dns ")
        let rest = isByDNS ? String(command.dropFirst(6)) : command
        return "exec \(tool) exec \(node) --workload \(workload) \(isByDNS ? "--dns " : "")-- \(rest)"
    }

    @discardableResult
    static func output(_ node: String, _ workload: String = "w1", _ command: String, seconds: Int = 60) throws -> String
    {
        try Shell.output(line(node, workload, command), seconds: seconds)
    }

    /// Starts a server in the background unless it runs; `tools/lab down` ends it.
    static func start(
        _ name: String, _ node: String, _ workload: String, _ command: String, byDNS: Bool = false
    ) throws {
        let record = "\(state)/processes/\(name)"
        if try Shell.run("{ read -r pid _ <\(record) && kill -0 $pid; } 2>/dev/null").status == 0 { return }
        let names = byDNS ? " --dns" : ""
        try Shell.output("\(tool) start \(name) \(node) --workload \(workload)\(names) -- \(command)")
    }

    static func stop(_ name: String) throws { try Shell.output("\(tool) stop \(name)") }

    static func processID(_ name: String) throws -> Int32 {
        let line = try Shell.output("cat \(state)/processes/\(name)")
        return line.split(separator: " ").first.flatMap { Int32($0) } ?? -1
    }

    // MARK: What the mesh says

    static func meshctl(_ node: String, _ arguments: String, seconds: Int = 30) throws -> CommandResult {
        _ = environment
        return try Shell.run("exec \(tool) meshctl \(node) \(arguments)", seconds: seconds)
    }

    static func flows(_ node: String) throws -> [Flow] {
        let result = try meshctl(node, "flows -o json")
        guard result.status == 0 else { throw CommandFailure(command: "flows", result: result) }
        return try result.lines.map { try JSONDecoder().decode(Flow.self, from: Data($0.utf8)) }
    }

    /// The node's tunnels as that workload to that account.
    static func tunnels(_ node: String, from workload: String, to account: String) throws -> [TunnelLine] {
        let result = try meshctl(node, "tunnels -o json")
        guard result.status == 0 else { throw CommandFailure(command: "tunnels", result: result) }
        return try result.lines.map { try JSONDecoder().decode(TunnelLine.self, from: Data($0.utf8)) }.filter {
            $0.direction == "outbound" && $0.localPrincipal == "\(principalPrefix)\(node)-\(workload)"
                && $0.peerPrincipal == principalPrefix + account
        }
    }

    static func metrics(_ node: String) throws -> [Substring] {
        _ = environment
        return try output(node, "none", "curl -sf -m 5 'http://[::1]:15020/metrics'").split(separator: "\n")
    }

    /// Sum of all series of which the line contains every one of the texts.
    static func metric(_ node: String, _ texts: String...) throws -> Double {
        try metrics(node).filter { line in !line.hasPrefix("#") && texts.allSatisfy { line.contains($0) } }
            .compactMap { Double($0.split(separator: " ").last ?? "") }.reduce(0, +)
    }

    static func refusals(_ node: String, _ reason: String) throws -> Double {
        try metrics(node).filter {
            $0.hasPrefix("meshd_") && $0.contains("_total{") && $0.contains("reason=\"\(reason)\"")
        }
        .compactMap { Double($0.split(separator: " ").last ?? "") }.reduce(0, +)
    }

    // MARK: Processes of the mesh

    /// The process ids in a cgroup of the mesh itself: `meshd`, `proxy`, `sockets`.
    static func meshProcesses(_ node: String, _ part: String) throws -> [Int32] {
        try Shell.output("cat \(variable("LAB_CGROUP"))/\(node)/culvert/\(part)/cgroup.procs 2>/dev/null || true")
            .split(separator: "\n").compactMap { Int32($0) }
    }

    /// The most that these processes ever had resident, in KiB.
    static func peakKiB(_ pids: [Int32]) throws -> Int {
        try pids.map { pid in
            let line = try Shell.output("grep VmHWM /proc/\(pid)/status || true")
            return Int(line.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first ?? "") ?? 0
        }.reduce(0, +)
    }
}

/// One line of `meshctl flows -o json`: the fields that it promises.
struct Flow: Decodable {
    let id: UInt64
    let sourcePrincipal: String?
    let destinationPrincipal: String?
    let source: String?
    let sourceWorkload: String?
    let destinationWorkload: String?
    let bytesSent: UInt64
    let bytesReceived: UInt64
    let state: String
    let verdict: String
    let reason: String?
    let originalDestination: String?
    let peerNode: String?
    let tunnel: UInt32?
    let path: String

    enum CodingKeys: String, CodingKey {
        case sourcePrincipal = "source_principal"
        case destinationPrincipal = "destination_principal"
        case sourceWorkload = "source_workload"
        case destinationWorkload = "destination_workload"
        case bytesSent = "bytes_sent"
        case bytesReceived = "bytes_received"
        case originalDestination = "original_destination"
        case peerNode = "peer_node"
        case id, state, verdict, reason, source, tunnel, path
    }
}

/// One line of `meshctl tunnels -o json`.
struct TunnelLine: Decodable {
    let id: UInt32
    let direction: String
    let localPrincipal: String
    let peerPrincipal: String
    let streams: UInt32

    enum CodingKeys: String, CodingKey {
        case id, direction, streams
        case localPrincipal = "local_principal"
        case peerPrincipal = "peer_principal"
    }
}
