// DataPlane is the proxy: the process that carries applications' connections between nodes inside mutual-TLS tunnels.
// It accepts captured connections and peers' tunnels on sockets that meshd made, routes by the snapshot, judges through
// MeshPolicy, and relays. It opens no file, creates no network socket, runs no BPF and makes no decision of its own.
// `meshd proxy` calls it. One thread per event loop owns everything that touches a byte; the thread that calls `run`
// only talks to meshd.

import CLinux
import Glibc
package import LinuxIO
import OpenSSLTLS

/// A proxy process, or, in tests, a proxy inside one.
package final class Proxy {
    private let reactor: Reactor
    private let controller: ProxyController

    /// `isConfined: false` leaves the process as it is: for tests, whose process has other things to do.
    package init(
        controlPath: String, kernel: KernelInterface = .socketOptions, isConfined: Bool = true
    ) throws(IOError) {
        let reactor = try Reactor()
        self.reactor = reactor
        // A closed application must be an error of write(), not the end of the process.
        signal(SIGPIPE, SIG_IGN)
        controller = ProxyController(
            reactor: reactor, link: ControlLink(path: controlPath, reactor: reactor), kernel: kernel,
            started: {
                guard isConfined else { return }
                Hardening.confineOrEnd()
                OwnProcess.forgetStartUpCode()
            },
            ended: { reactor.stop() })
    }

    /// Serves until meshd has drained it.
    package func run() throws(IOError) {
        controller.start()
        try reactor.run()
        controller.stop()
    }

    /// Serves for at most `milliseconds`; for tests, which stop with `stop`.
    package func turn(limitMilliseconds milliseconds: Int32) throws(IOError) {
        try reactor.turn(limitMilliseconds: milliseconds)
    }

    package func start() { controller.start() }
    package func stop() { controller.stop() }

    /// What `meshd proxy` is. Returns the exit status.
    package static func run(controlPath: String) -> Int32 {
        Hardening.prepare()
        do {
            try TLSLibrary.cleanseKeys()
            // Everything that the library would load later: nothing can be opened then.
            try TLSLibrary.prepare()
            try Proxy(controlPath: controlPath).run()
            return 0
        } catch {
            StandardError.write("proxy: \(error)")
            return 1
        }
    }
}
