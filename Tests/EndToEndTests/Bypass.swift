import FoundationEssentials
import Glibc

/// What Tests/Applications/bypass.py prints.
struct Attempt: Decodable {
    let outcome: String
    let port: Int?
    let peer: String?
    let answer: String?
    let taken: [Int]?

    /// `way` from a workload of node a to `host` and `port`; `arguments` are cgroups of that node to be in.
    static func make(
        _ way: String, from workload: String, _ host: String, _ port: Int, in cgroups: [String] = [], seconds: Int = 60
    ) throws -> Attempt {
        let arguments = cgroups.map { " \(Lab.variable("LAB_CGROUP"))/a/\($0)" }.joined()
        let line = try Lab.output(
            "a", workload, "\(Lab.python) \(Lab.applications)/bypass.py \(way) \(host) \(port)\(arguments)",
            seconds: seconds)
        return try decode(line.split(separator: "\n").last ?? "")
    }

    static func decode(_ line: some StringProtocol) throws -> Attempt {
        try JSONDecoder().decode(Attempt.self, from: Data(line.utf8))
    }

    /// The flow of its connection, once node a shows it.
    func flow() throws -> Flow? {
        var found: Flow?
        _ = try Shell.waits(5) {
            found = try Lab.flows("a").last { $0.source?.hasSuffix(":\(port ?? 0)") == true }
            return found != nil
        }
        return found
    }
}

/// Workloads of node a besides the lab's own, which appear and go while meshd runs. They share the node's network namespace
/// and address, as w1 and w2 do.
enum ExtraWorkload {
    static func cgroup(_ name: String) -> String { "\(Lab.variable("LAB_CGROUP"))/a/workloads/\(name)" }

    /// With its certificate, and with a policy of its own where there is one: the `spec` of an EgressPolicy without
    /// selector.
    static func make(_ name: String, port: Int, egress: String? = nil, isMeshed: Bool = true) throws {
        try Shell.output("mkdir -p \(cgroup(name))")
        try certify(name)
        guard isMeshed else { return }
        try mesh(name, port: port, egress: egress)
        guard try isReady(name) else {
            throw CommandFailure(command: "make \(name)", result: try Lab.meshctl("a", "check"))
        }
    }

    static func certify(_ name: String) throws {
        try Shell.output(
            """
            [ -d \(Lab.state)/a/certificates/shop/a-\(name) ] ||
                \(Lab.state)/bin/meshctl ca issue --directory \(Lab.state)/ca --output \(Lab.state)/a/certificates \
                    --namespace shop --service-account a-\(name) >/dev/null
            """)
    }

    /// `port` nil: it only calls, and has no address. `pattern`: of its cgroups, where it is not one of its name.
    static func mesh(
        _ name: String, port: Int?, pattern: String? = nil, more: String = "", egress: String? = nil
    ) throws {
        var text = """
            kind: Workload
            metadata: {name: a-\(name), namespace: shop, labels: {app: a-\(name)}}
            spec:
              serviceAccount: a-\(name)
              node: a
              selector: {cgroup: \"workloads/\(pattern ?? name)\"\(more)}
            """
        if let port { text += "\n  addresses: [\"\(Lab.address("a"))\"]\n  ports: [\(port)]" }
        if let egress {
            text += "\n---\nkind: EgressPolicy\nmetadata: {name: a-\(name), namespace: shop}\n"
            text += "spec: {selector: {matchLabels: {app: a-\(name)}}, \(egress)}\n"
        }
        for node in ["b", "a"] {
            let file = "\(Lab.state)/\(node)/resources/\(name).yaml"
            try Shell.output("cat >\(file).new <<'YAML'\n\(text)\nYAML\nmv \(file).new \(file)")
        }
    }

    /// Until a connection of its own comes through the mesh.
    static func isReady(_ name: String) throws -> Bool {
        try Shell.waits(20) {
            try Attempt.make("plainly", from: name, "web", 80).answer?.contains(" 200 ") == true
        }
    }

    static func remove(_ name: String) throws {
        try Shell.output("rm -f \(Lab.state)/{a,b}/resources/\(name).yaml; echo 1 >\(cgroup(name))/cgroup.kill")
        _ = try Shell.waits(10) {
            try Shell.run("rmdir \(cgroup(name)) 2>/dev/null || [ ! -d \(cgroup(name)) ]").status == 0
        }
    }
}
