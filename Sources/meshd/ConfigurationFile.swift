import Glibc
import Interception
import LinuxIO
import MeshConfig
import MeshModel

/// The configuration with what it needs resolved on this machine: cgroup paths, user and group numbers.
struct ConfigurationFile {
    let path: String
    let configuration: Configuration
    let hierarchy: CgroupHierarchy
    let cgroups: MeshCgroups
    let proxyUID: UInt32
    let proxyGID: UInt32
    /// nil: the group does not exist, and only root may use the admin socket.
    let adminGID: UInt32?

    private static let bytesMax = 1 << 20
    private static let withoutCgroups =
        "no cgroup v2 is mounted, and by cgroups meshd knows workloads; mount it (mount -t cgroup2 none /sys/fs/cgroup) "
        + "or boot with systemd.unified_cgroup_hierarchy=1"

    /// Prints every problem; nil if there is an error.
    init?(path: String) {
        self.path = path
        var diagnostics = Diagnostics()
        do {
            let bytes = try TextFile.readBytes(path, limitBytes: Self.bytesMax)
            let read = Configuration(yaml: bytes, file: path, diagnostics: &diagnostics)
            for diagnostic in diagnostics.list { Meshd.complain(diagnostic.description) }
            guard let read else { return nil }
            configuration = read
            hierarchy = try CgroupHierarchy.locate()
        } catch {
            Meshd.complain("meshd: \(error.call == "cgroup2" ? Self.withoutCgroups : error.description)")
            return nil
        }
        cgroups = MeshCgroups(root: configuration.cgroupRoot, hierarchy)
        guard let user = getpwnam(configuration.proxy.user) else {
            Meshd.complain(
                "\(path): error: proxy.user \(configuration.proxy.user) does not exist; add it, or name another "
                    + "unprivileged user")
            return nil
        }
        (proxyUID, proxyGID) = (user.pointee.pw_uid, user.pointee.pw_gid)
        adminGID = getgrnam(configuration.admin.group).map { $0.pointee.gr_gid }
    }

    var pinDirectory: String { (try? interceptor.pinDirectory) ?? configuration.bpffs }

    var interceptor: Interceptor.Configuration {
        get throws {
            var result = Interceptor.Configuration(
                node: configuration.node, cgroupRoot: cgroups.root, runtimeDirectory: configuration.runtimeDirectory,
                executable: try OwnProcess.executablePath(), proxyUID: proxyUID, proxyGID: proxyGID)
            result.bpffs = configuration.bpffs
            result.startsProxy = configuration.proxy.launch == .process
            result.loops = loops
            result.proxyDescriptorsMax = configuration.proxy.descriptorsMax
            result.drainMilliseconds = configuration.proxy.drainTimeoutMilliseconds
            result.failureOpen = configuration.failureMode == .open
            result.fencesAllEgress = configuration.egressFence == .always
            result.ports.tunnel = configuration.tunnelPort
            if configuration.names.domain.isEmpty { result.ports.names = 0 }
            result.ports.ownServices = [configuration.metricsAddress, configuration.readinessAddress].compactMap {
                $0?.port
            }
            result.beatStaleMilliseconds = UInt64(configuration.capture.restartGraceMilliseconds)
            result.handoversPerWorkloadMax = configuration.capture.handoversPerWorkloadMax
            return result
        }
    }

    /// 0 in the file: one loop for each processor that this process may use.
    var loops: UInt16 {
        if configuration.proxy.loops > 0 { return configuration.proxy.loops }
        return UInt16(max(1, min(64, sysconf(Int32(_SC_NPROCESSORS_ONLN)))))
    }
}
