package import Telemetry

/// What `meshctl status` shows: this node's daemon, its parts and what is wrong with them.
package struct NodeStatus: Equatable, Sendable, Decodable, JSONWritable {
    package var node = ""
    package var trustDomain = ""
    package var version = ""
    package var pid: Int32 = 0
    package var ready = false
    /// Why it is not ready; empty when it is.
    package var readyReason = ""
    package var uptimeSeconds: UInt64 = 0
    /// CLOCK_BOOTTIME; another number is another meshd.
    package var startedNanoseconds: UInt64 = 0
    /// The file that meshd was started from, and whether it is still the one that is there.
    package var executable = ""
    package var isInstalled = true
    package var snapshotVersion: UInt64 = 0
    package var resourceFiles = 0
    /// Of the newest reading of the resource files. While there are any, the last good state is in force.
    package var resourceErrors: [String] = []
    package var kernelProgramsAttached = false
    package var proxyPid: Int32 = 0
    package var proxyRestarts: UInt64 = 0
    package var proxySnapshotVersion: UInt64 = 0
    package var proxyOverloaded = false
    /// Proxies that were replaced and finish what they have.
    package var proxiesDraining: [Int32] = []
    /// Why the proxy is about to be replaced; empty when it is not.
    package var proxyReplacement = ""
    package var workloads = 0
    package var services = 0
    package var nodes = 0
    package var tunnels = 0
    package var connections = 0
    package var lostEvents: UInt64 = 0
    /// One sentence for each thing that is not as it should be.
    package var problems: [String] = []

    package init() {}

    private enum CodingKeys: String, CodingKey {
        case node, version, pid, ready, workloads, services, nodes, tunnels, connections, problems
        case trustDomain = "trust_domain"
        case readyReason = "ready_reason"
        case uptimeSeconds = "uptime_seconds"
        case startedNanoseconds = "started_boot_ns"
        case executable
        case isInstalled = "is_installed_binary"
        case proxiesDraining = "proxies_draining"
        case proxyReplacement = "proxy_replacement"
        case snapshotVersion = "snapshot_version"
        case resourceFiles = "resource_files"
        case resourceErrors = "resource_errors"
        case kernelProgramsAttached = "kernel_programs_attached"
        case proxyPid = "proxy_pid"
        case proxyRestarts = "proxy_restarts"
        case proxySnapshotVersion = "proxy_snapshot_version"
        case proxyOverloaded = "proxy_overloaded"
        case lostEvents = "lost_events"
    }

    package func write(to json: inout JSONWriter) {
        json.object { json in
            json.member("node", node)
            json.member("trust_domain", trustDomain)
            json.member("version", version)
            json.member("pid", pid)
            json.member("ready", ready)
            json.member("ready_reason", readyReason)
            json.member("uptime_seconds", uptimeSeconds)
            json.member("started_boot_ns", startedNanoseconds)
            json.member("executable", executable)
            json.member("is_installed_binary", isInstalled)
            json.member("snapshot_version", snapshotVersion)
            json.member("resource_files", resourceFiles)
            json.member("resource_errors", resourceErrors)
            json.member("kernel_programs_attached", kernelProgramsAttached)
            json.member("proxy_pid", proxyPid)
            json.member("proxy_restarts", proxyRestarts)
            json.member("proxy_snapshot_version", proxySnapshotVersion)
            json.member("proxy_overloaded", proxyOverloaded)
            json.key("proxies_draining")
            json.array(proxiesDraining) { $0.integer($1) }
            json.member("proxy_replacement", proxyReplacement)
            json.member("workloads", workloads)
            json.member("services", services)
            json.member("nodes", nodes)
            json.member("tunnels", tunnels)
            json.member("connections", connections)
            json.member("lost_events", lostEvents)
            json.member("problems", problems)
        }
    }
}

/// One line of `meshctl check`.
package struct CheckFact: Equatable, Sendable, Decodable, JSONWritable {
    package enum Outcome: String, Sendable, Decodable {
        case passed, warning, failed
    }

    /// What holds when it passes, as a sentence.
    package var name: String
    package var outcome: Outcome
    /// What is wrong; may say more when it passes.
    package var detail: String
    /// What to do about it; empty when it passes.
    package var fix: String

    package init(_ name: String, _ outcome: Outcome, detail: String = "", fix: String = "") {
        self.name = name
        self.outcome = outcome
        self.detail = detail
        self.fix = fix
    }

    package func write(to json: inout JSONWriter) {
        json.object { json in
            json.member("name", name)
            json.member("outcome", outcome.rawValue)
            json.member("detail", detail)
            json.member("fix", fix)
        }
    }
}

/// An answer that is a list: an object around it leaves room for more.
package struct RowList<Row>: JSONWritable where Row: JSONWritable {
    package var rows: [Row]
    package init(_ rows: [Row]) { self.rows = rows }

    package func write(to json: inout JSONWriter) {
        json.object { json in
            json.key("rows")
            json.array(rows) { $1.write(to: &$0) }
        }
    }
}

extension RowList: Decodable where Row: Decodable {}
extension RowList: Equatable where Row: Equatable {}
extension RowList: Sendable where Row: Sendable {}
