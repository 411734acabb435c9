import Glibc
package import LinuxIO

/// Where proxies connect to meshd: a Unix socket in a directory that only root and the proxy's group may enter.
package final class ControlListener {
    package let path: String
    private let socket: SeqpacketSocket
    private let reactor: Reactor
    private var watch: Reactor.WatchID?

    /// Replaces what a former meshd left at `directory`/control.sock. `onConnection` gets every connection; checking it
    /// is its business.
    package init(
        directory: String, group: UInt32, reactor: Reactor,
        onConnection: @escaping (consuming SeqpacketSocket) -> Void
    ) throws(IOError) {
        path = directory + "/control.sock"
        self.reactor = reactor
        try TextFile.createDirectory(directory, mode: 0o750)
        // mkdir's mode is cut by umask, and the directory may be from another time.
        guard chown(directory, 0, group) == 0, chmod(directory, 0o750) == 0 else {
            throw .last("chown", object: directory)
        }
        guard unlink(path) == 0 || errno == ENOENT else { throw .last("unlink", object: path) }
        socket = try SeqpacketSocket.listen(path: path)
        guard chown(path, 0, group) == 0, chmod(path, 0o660) == 0 else { throw .last("chown", object: path) }
        watch = try reactor.watch(socket.descriptor) { [weak self] _ in self?.accept(onConnection) }
    }

    /// Stops listening. The path stays, for the next meshd to replace: a proxy keeps trying it. What it said to a queue
    /// that nobody takes from would be lost: it is refused from now on.
    package func close() {
        guard let watch else { return }
        reactor.remove(watch)
        self.watch = nil
        shutdown(socket.descriptor.number, Int32(SHUT_RDWR))
    }

    deinit { close() }

    private func accept(_ onConnection: (consuming SeqpacketSocket) -> Void) {
        do {
            while let connection = try socket.accept() { onConnection(connection) }
        } catch {
            // Out of descriptors: level-triggered, so the next turn tries again.
        }
    }
}
