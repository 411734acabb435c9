import CLinux
import Glibc
import LinuxIO
package import MeshModel

/// Ways by which a workload resolves names past its resolver's port 53, where the mesh can't answer: looked for in what its
/// processes see as their files and in the connections of their network namespace, for `meshctl check`. A process may
/// resolve in ways that leave no trace there; this finds the usual ones.
package enum NameLookupScan {
    package enum Finding: Int, Hashable, Sendable, Comparable, CustomStringConvertible {
        /// `hosts:` in nsswitch.conf asks systemd-resolved over a Unix socket before DNS.
        case nssResolve
        /// glibc asks nscd, which resolves in its own cgroup.
        case nscd
        /// A connection to port 853.
        case dnsOverTLS
        /// A link-local resolver in resolv.conf.
        case linkLocalResolver

        package static func < (left: Finding, right: Finding) -> Bool { left.rawValue < right.rawValue }

        package var description: String {
            switch self {
            case .nssResolve: "nss-resolve (hosts: in nsswitch.conf)"
            case .nscd: "nscd (/run/nscd/socket)"
            case .dnsOverTLS: "DNS over TLS (port 853)"
            case .linkLocalResolver: "a link-local resolver (resolv.conf)"
            }
        }

        /// What to do.
        package var fix: String {
            switch self {
            case .nssResolve: "put dns before resolve in hosts: of its /etc/nsswitch.conf, or take resolve out"
            case .nscd: "stop nscd, or set enable-cache hosts no in nscd.conf"
            case .dnsOverTLS: "let it ask its resolver by plain DNS: what it asks stays on the node"
            case .linkLocalResolver: "give it a resolver with another address"
            }
        }
    }

    /// Of one workload that many are looked at; they mostly share their root.
    private static let processesMax = 8
    private static let fileBytesMax = 64 << 10
    private static let descriptorsMax = 4_096

    /// Some system calls for each process; what can't be read is taken for nothing.
    package static func findings(of processes: [Int32]) -> Set<Finding> {
        var found: Set<Finding> = []
        for process in processes.prefix(processesMax) {
            let root = "/proc/\(process)/root"
            if let text = read("etc/nsswitch.conf", root), asksResolved(nsswitch: text) { found.insert(.nssResolve) }
            if let text = read("etc/resolv.conf", root), hasLinkLocalResolver(resolvConf: text) {
                found.insert(.linkLocalResolver)
            }
            let nscd = ["run/nscd/socket", "var/run/nscd/socket"]
            if nscd.contains(where: { clinux_is_socket_in_root(root, $0) == 1 }) { found.insert(.nscd) }
            if !socketsToTLSResolvers(process).isDisjoint(with: sockets(of: process)) { found.insert(.dnsOverTLS) }
        }
        return found
    }

    // MARK: what files say

    /// Whether `resolve` comes before `dns`, or without it.
    static func asksResolved(nsswitch text: String) -> Bool {
        for line in text.split(separator: "\n") {
            let words = line.prefix { $0 != "#" }.split { $0 == " " || $0 == "\t" }
            guard words.first == "hosts:" else { continue }
            guard let resolve = words.firstIndex(of: "resolve") else { return false }
            guard let dns = words.firstIndex(of: "dns") else { return true }
            return resolve < dns
        }
        return false
    }

    static func hasLinkLocalResolver(resolvConf text: String) -> Bool {
        text.split(separator: "\n").contains { line in
            let words = line.split { $0 == " " || $0 == "\t" }
            guard words.count > 1, words[0] == "nameserver" else { return false }
            // fe80::/10
            let address = words[1].lowercased()
            return ["fe8", "fe9", "fea", "feb"].contains { address.hasPrefix($0) } && address.contains(":")
        }
    }

    /// The inodes of sockets that /proc/net/tcp shows with this remote port.
    static func inodes(procNetTCP text: String, remotePort: UInt16) -> Set<UInt64> {
        var inodes: Set<UInt64> = []
        for line in text.split(separator: "\n").dropFirst() {
            let fields = line.split(separator: " ")
            guard fields.count > 9, let port = fields[2].split(separator: ":").last,
                UInt16(port, radix: 16) == remotePort, let inode = UInt64(fields[9]), inode != 0
            else { continue }
            inodes.insert(inode)
        }
        return inodes
    }

    // MARK: private

    private static func read(_ path: String, _ root: String) -> String? {
        let number = clinux_open_in_root(root, path)
        guard number >= 0 else { return nil }
        let file = FileDescriptor(owning: number)
        var bytes = [UInt8](repeating: 0, count: fileBytesMax)
        let count = Glibc.read(file.number, &bytes, bytes.count)
        return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
    }

    private static func socketsToTLSResolvers(_ process: Int32) -> Set<UInt64> {
        var found: Set<UInt64> = []
        for name in ["tcp", "tcp6"] {
            guard let text = try? TextFile.read("/proc/\(process)/net/\(name)", limitBytes: 4 << 20) else { continue }
            found.formUnion(inodes(procNetTCP: text, remotePort: 853))
        }
        return found
    }

    private static func sockets(of process: Int32) -> Set<UInt64> {
        let directory = "/proc/\(process)/fd"
        guard let entries = try? TextFile.list(directory) else { return [] }
        var inodes: Set<UInt64> = []
        var target = [CChar](repeating: 0, count: 64)
        for entry in entries.prefix(descriptorsMax) {
            let count = readlink("\(directory)/\(entry.name)", &target, target.count)
            guard count > 0 else { continue }
            // socket:[12345]
            let text = String(decoding: target[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
            if text.hasPrefix("socket:["), let inode = UInt64(text.dropFirst(8).dropLast()) { inodes.insert(inode) }
        }
        return inodes
    }
}

extension Interceptor {
    /// Running workloads whose names the mesh does not see asked for; sorted, none where DNS is left alone anyway.
    package func namesAskedElsewhere() -> [(workload: ResourceName, finding: NameLookupScan.Finding)] {
        guard configuration.ports.names != 0 else { return [] }
        var found: [(workload: ResourceName, finding: NameLookupScan.Finding)] = []
        for instance in instances.all {
            guard let processes = try? hierarchy.processes(in: instance.path) else { continue }
            for finding in NameLookupScan.findings(of: processes) { found.append((instance.resource, finding)) }
        }
        return found.sorted { ($0.workload, $0.finding) < ($1.workload, $1.finding) }
    }
}
