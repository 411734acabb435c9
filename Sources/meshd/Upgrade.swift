import Glibc
import Interception
import LinuxIO
import MeshConfig

/// What meshd goes on as when it is upgraded: the file at the path that it was started from, in the same process, so
/// that whoever manages meshd sees no end of it. Programs, pins, proxies and listeners are at work meanwhile, and the new
/// meshd takes them over as after any restart; proxies of another binary are replaced by it.
struct Upgrade {
    static let rehearsalVerb = "rehearse"
    private static let rehearsalMilliseconds: Int32 = 10_000

    let path: String
    /// The process id of a proxy that the next meshd is to replace though its binary may be the same.
    private let replacedProxyFile: String
    private let configurationPath: String
    private let own: stat

    init(_ configuration: Configuration, configurationPath: String) throws(IOError) {
        path = try OwnProcess.executablePath()
        self.configurationPath = configurationPath
        replacedProxyFile = configuration.runtimeDirectory + "/replaced-proxy"
        var own = stat()
        guard stat("/proc/self/exe", &own) == 0 else { throw .last("stat", object: "/proc/self/exe") }
        self.own = own
    }

    /// Whether the file at `path` is the one that this process runs.
    var isRunning: Bool {
        var installed = stat()
        return stat(path, &installed) == 0 && installed.st_dev == own.st_dev && installed.st_ino == own.st_ino
    }

    /// Why the file at `path` can't be gone on as; nil: it read its configuration and ended as it should.
    func rehearse() -> String? {
        var arguments = [path, Self.rehearsalVerb]
        arguments += ["--config", configurationPath]
        do throws(IOError) {
            let process = try ProcessSpawn(path: path, arguments: arguments).start(passing: DescriptorBatch())
            guard process.awaitEnd(milliseconds: Self.rehearsalMilliseconds) else {
                try process.signal(SIGKILL)
                return "\(path) does not end when it is tried"
            }
            guard let end = process.reap(), end == .exited(code: 0) else {
                return "\(path) can't start with \(configurationPath): see meshd's log"
            }
            return nil
        } catch {
            return "\(path) can't be started: \(error)"
        }
    }

    func noteReplacedProxy(_ pid: Int32?) throws(IOError) {
        if let pid { try TextFile.replace(replacedProxyFile, with: Array("\(pid)\n".utf8)) }
    }

    /// What an earlier meshd noted; once.
    func takeReplacedProxy() -> Int32? {
        let text = try? TextFile.read(replacedProxyFile)
        unlink(replacedProxyFile)
        return text.flatMap { Int32($0.prefix { $0 != "\n" }) }
    }
}

extension Daemon {
    /// Soon after the answer is written, this process is another program.
    func upgrade() -> String? {
        if isBeingUpgraded { return "an upgrade is under way" }
        if let fault = upgradeTarget.rehearse() { return fault }
        if interceptor.isFullOfDrainingProxies {
            return "\(interceptor.drainingProxies.count) proxies still finish what they have: wait for one of them"
        }
        do throws(IOError) {
            try upgradeTarget.noteReplacedProxy(interceptor.proxyPID)
        } catch {
            return "\(error)"
        }
        isBeingUpgraded = true
        log.info("goes on as \(upgradeTarget.path)")
        _ = reactor.schedule(afterMilliseconds: 50) { [self] in
            operation?.prepareForSuccessor()
            stop()
            let failure = OwnProcess.become(upgradeTarget.path, arguments: CommandLine.arguments)
            // It could be started a moment ago. Everything of ours is down: the running binary goes on.
            log.error("goes on as it was: \(failure)")
            _ = OwnProcess.become("/proc/self/exe", arguments: CommandLine.arguments)
            exit(1)
        }
        return nil
    }
}
