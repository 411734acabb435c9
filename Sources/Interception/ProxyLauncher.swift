import Glibc
import LinuxIO

/// Starts proxies: by a double fork into the proxies' cgroup, or by asking the service manager for one more instance of
/// the unit.
struct ProxyLauncher {
    private let configuration: ProxySupervisor.Configuration
    private static let systemctl = "/usr/bin/systemctl"

    init(_ configuration: ProxySupervisor.Configuration) { self.configuration = configuration }

    /// The process, or nil where the service manager starts it: it is known once it connects. `taken`: the cgroups of
    /// those that run.
    func start(taken: [String]) throws(IOError) -> ChildProcess? {
        guard configuration.startsProxy else {
            try startUnit(taken: taken)
            return nil
        }
        // It may have been removed while it was empty.
        try configuration.hierarchy.create(configuration.cgroup)
        var spawn = ProcessSpawn(
            path: configuration.executable,
            arguments: [
                configuration.executable, "proxy", "--control", configuration.controlDirectory + "/control.sock",
            ]
        )
        spawn.environment = configuration.environment
        spawn.cgroupProcs = configuration.hierarchy.procsFile(configuration.cgroup)
        (spawn.uid, spawn.gid) = (configuration.uid, configuration.gid)
        spawn.noNewPrivileges = true
        spawn.isDetached = true
        return try spawn.start(passing: DescriptorBatch())
    }

    /// Instances are `main`, as installed, and numbers: the first that does not run.
    static func instance(taken: [String]) -> String {
        let names = ["main"] + (2...ProxySupervisor.processesMax + 1).map { "\($0)" }
        return names.first { name in !taken.contains { $0.hasSuffix("/culvert-proxy@\(name).service") } } ?? "main"
    }

    private func startUnit(taken: [String]) throws(IOError) {
        let unit = "culvert-proxy@\(Self.instance(taken: taken)).service"
        let spawn = ProcessSpawn(path: Self.systemctl, arguments: [Self.systemctl, "--no-block", "start", unit])
        let process = try spawn.start(passing: DescriptorBatch())
        // It only leaves a message with the service manager.
        guard process.awaitEnd(milliseconds: 5_000) else {
            try process.signal(SIGKILL)
            throw IOError("systemctl start", code: ETIMEDOUT, object: unit)
        }
        guard process.reap() == .exited(code: 0) else { throw IOError("systemctl start", code: ECHILD, object: unit) }
    }
}
