import LinuxIO
import MeshConfig
import MeshModel
import ProxyControl

final class IdentityFeed {
    var onChange: (([SupervisorMessage]) -> Void)?
    var messagesForNewProxy: [SupervisorMessage] { [] }
    init(_ configuration: Configuration, reactor: Reactor, log: DaemonLog) {}
    func start() throws {}
    func reload() {}
    func setLocalPrincipals(of snapshot: Snapshot) {}
}
