import CMeshABI
import Glibc
package import LinuxIO
package import MeshModel
package import ProxyControl

/// meshd's side of the socket maker: starts it, asks it, starts it again when it fails. Calls block, for a few
/// milliseconds at most for a full batch of sockets and `timeoutMilliseconds` when the maker hangs; then it is killed.
package final class SocketMaker {
    /// How the child is started.
    package struct Configuration {
        /// Of meshd.
        package var executable: String
        /// Behind the executable's name.
        package var arguments: [String] = [SocketMakerProcess.verb]
        package var environment: [String] = []
        /// The maker's cgroup, absolute from the hierarchy's root.
        package var cgroup: String
        package var hierarchy: CgroupHierarchy
        package var timeoutMilliseconds: Int32 = 2_000

        package init(executable: String, cgroup: String, hierarchy: CgroupHierarchy) {
            self.executable = executable
            self.cgroup = cgroup
            self.hierarchy = hierarchy
        }
    }

    /// Sockets, and the namespace they are in.
    package struct Made: ~Copyable {
        package var sockets: DescriptorBatch
        package let cookie: UInt64
        /// What the maker could not do; the sockets are then none.
        fileprivate let failure: IOError?

        package consuming func takeSockets() -> DescriptorBatch { sockets }
    }

    private final class Child {
        let process: ChildProcess
        let socket: SeqpacketSocket

        init(process: consuming ChildProcess, socket: consuming SeqpacketSocket) {
            self.process = process
            self.socket = socket
        }
    }

    private let configuration: Configuration
    private var child: Child?
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256, alignment: 16)

    package init(_ configuration: Configuration) { self.configuration = configuration }

    deinit {
        stop()
        buffer.deallocate()
    }

    /// The child's process, for status and tests; nil before the first request.
    package var pid: Int32? { child?.process.pid }

    /// Reserves the mesh's ports in the namespace and brings its loopback up; returns its cookie.
    package func prepare(
        _ namespace: borrowing NetworkNamespace, reservedPorts: [UInt16]
    ) throws(IOError) -> UInt64 {
        try ask(.prepare(reservedPorts: reservedPorts), in: namespace).cookie
    }

    package func listeners(
        on address: SocketAddress, isDatagram: Bool = false, in namespace: borrowing NetworkNamespace,
        id: NetworkNamespaceID, count: UInt16
    ) throws(IOError) -> Made {
        try ask(.listeners(address, isDatagram: isDatagram, namespace: id, count: count), in: namespace)
    }

    package func dialSockets(
        _ pool: DialPool, count: UInt16, in namespace: borrowing NetworkNamespace
    ) throws(IOError) -> Made {
        let purpose =
            switch pool.purpose {
            case .application: mesh_purpose_kind.MESH_PURPOSE_APPLICATION.rawValue
            case .tunnel: mesh_purpose_kind.MESH_PURPOSE_TUNNEL.rawValue
            case .namesDatagram, .namesStream: mesh_purpose_kind.MESH_PURPOSE_NAMES.rawValue
            }
        let count = min(count, SocketRequest.socketsMax)
        return try ask(
            .dialSockets(
                purpose: purpose, isDatagram: pool.purpose == .namesDatagram, isIPv6: pool.isIPv6,
                namespace: pool.networkNamespace, count: count),
            in: namespace)
    }

    /// Ends the child; the next request starts another.
    package func stop() {
        guard let child else { return }
        self.child = nil
        try? child.process.signal(SIGKILL)
        _ = child.process.awaitEnd(milliseconds: configuration.timeoutMilliseconds)
        _ = child.process.reap()
    }

    // MARK: private

    private func ask(_ request: SocketRequest, in namespace: borrowing NetworkNamespace) throws(IOError) -> Made {
        let child = try running()
        var isAnswered = false
        // The answer could otherwise be taken for that of the next request.
        defer { if !isAnswered { stop() } }
        let descriptors = try DescriptorBatch(namespace.duplicate())
        guard try child.socket.send(request.encode(), descriptors: descriptors) else {
            throw IOError("socket maker", code: EAGAIN)
        }
        let made = try receive(from: child, answerTo: request)
        isAnswered = true
        if let failure = made.failure { throw failure }
        return made
    }

    private func running() throws(IOError) -> Child {
        if let child {
            if !child.process.hasEnded() { return child }
            stop()
        }
        try configuration.hierarchy.create(configuration.cgroup)
        let pair = try SeqpacketSocket.pair()
        var spawn = ProcessSpawn(
            path: configuration.executable, arguments: [configuration.executable] + configuration.arguments)
        spawn.environment = configuration.environment
        spawn.cgroupProcs = configuration.hierarchy.procsFile(configuration.cgroup)
        let descriptors = try DescriptorBatch(pair.second.descriptor.duplicate())
        let process = try spawn.start(passing: descriptors)
        let started = Child(process: process, socket: try SeqpacketSocket(pair.first.descriptor.duplicate()))
        child = started
        return started
    }

    private func receive(from child: Child, answerTo request: SocketRequest) throws(IOError) -> Made {
        var poll = pollfd(fd: child.socket.descriptor.number, events: Int16(POLLIN), revents: 0)
        guard Glibc.poll(&poll, 1, configuration.timeoutMilliseconds) > 0 else {
            throw IOError("socket maker", code: ETIMEDOUT, object: request.summary)
        }
        switch try child.socket.receive(into: buffer) {
        case .message(let count, let sockets):
            guard let reply = SocketReply(decoding: UnsafeRawBufferPointer(rebasing: buffer[..<count])) else {
                throw IOError("socket maker", code: EBADMSG, object: request.summary)
            }
            let failure =
                reply.code == 0 ? nil : IOError(reply.failedCall, code: reply.code, object: request.summary)
            return Made(sockets: sockets, cookie: reply.cookie, failure: failure)
        case .nothing: throw IOError("socket maker", code: EPROTO, object: request.summary)
        case .closed: throw IOError("socket maker", code: EPIPE, object: request.summary)
        }
    }
}
