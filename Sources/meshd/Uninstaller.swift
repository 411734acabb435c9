import Glibc
import Interception
import LinuxIO
import MeshConfig

/// `meshd uninstall`: takes back what a stopped meshd left at work on purpose.
enum Uninstaller {
    static func run(_ file: ConfigurationFile) -> Int32 {
        do {
            let layouts = "\(file.configuration.bpffs)/culvert/\(file.configuration.node)"
            let supervisor = ProxySupervisor.Configuration(
                executable: "", controlDirectory: file.configuration.runtimeDirectory + "/proxy", uid: file.proxyUID,
                gid: file.proxyGID, cgroup: file.cgroups.proxy, hierarchy: file.hierarchy)
            // Capture ends first: from here on the workloads' connections are plain, no longer refused.
            try NodeKernel.uninstall(file.interceptor)
            rmdir(layouts)
            rmdir("\(file.configuration.bpffs)/culvert")
            ProxySupervisor(
                supervisor, reactor: try Reactor(),
                callbacks: .init(connected: { _, _ in }, message: { _, _ in }, ended: { _ in }, report: { _ in })
            ).endProxy()
            unlink(file.configuration.runtimeDirectory + "/identities")
            file.cgroups.remove(file.hierarchy)
            print("detached every program and removed pins, cgroups and proxy of node \(file.configuration.node)")
            return 0
        } catch {
            Meshd.complain("meshd uninstall: \(error)")
            return 1
        }
    }
}
