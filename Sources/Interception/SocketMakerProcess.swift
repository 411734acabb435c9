import CLinux
import CMeshABI
import Glibc
package import LinuxIO
import MeshModel

/// The child process that makes every socket of the mesh: `meshd socket-maker`. One thread, in a cgroup of its own that
/// holds nothing else, because the cgroup in which a socket is created is what the kernel side recognises it by. It
/// enters network namespaces, creates, marks and passes on; it reads no socket and keeps nothing between requests, so
/// it pins no namespace.
package enum SocketMakerProcess {
    /// The control socket's descriptor number in this process.
    package static let controlDescriptor: Int32 = 3
    package static let verb = "socket-maker"

    static let backlog: Int32 = 4_096
    /// Sockets are asked for in bursts, and none for long after: then the memory is given back.
    private static let restMilliseconds: Int32 = 2_000

    /// Serves until meshd closes its end. `marksPurpose` is false only in tests without the kernel programs.
    package static func run(control: consuming FileDescriptor, marksPurpose: Bool = true) throws(IOError) {
        try OwnProcess.becomeUndumpable()
        OwnProcess.forgetStartUpCode()
        var isAtRest = true
        let socket = SeqpacketSocket(control)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 256, alignment: 16)
        defer { buffer.deallocate() }
        while true {
            switch try socket.receive(into: buffer, descriptorsMax: 1) {
            case .closed: return
            case .nothing:
                if wait(socket, for: POLLIN, milliseconds: isAtRest ? -1 : restMilliseconds) { continue }
                OwnProcess.giveBackMemory()
                isAtRest = true
            case .message(let count, let descriptors):
                isAtRest = false
                let request = SocketRequest(decoding: UnsafeRawBufferPointer(rebasing: buffer[..<count]))
                try answer(request, descriptors, on: socket, marksPurpose: marksPurpose)
            }
        }
    }

    private static func answer(
        _ request: SocketRequest?, _ namespace: consuming DescriptorBatch, on socket: borrowing SeqpacketSocket,
        marksPurpose: Bool
    ) throws(IOError) {
        var reply = SocketReply()
        var sockets = DescriptorBatch()
        do throws(IOError) {
            guard let request else { throw IOError("socket request", code: EBADMSG) }
            let home = try NetworkNamespace.current()
            if let there = namespace.takeFirst() { try NetworkNamespace(there).enter() }
            defer { leave(to: home) }
            reply.cookie = try NetworkNamespace.cookieOfCallingThread()
            sockets = try make(request, marksPurpose: marksPurpose)
        } catch {
            (reply.code, reply.failedCall) = (error.code, error.call)
        }
        while try !socket.send(reply.encode(), descriptors: sockets) { wait(socket, for: POLLOUT) }
    }

    private static func make(_ request: SocketRequest, marksPurpose: Bool) throws(IOError) -> DescriptorBatch {
        var sockets = DescriptorBatch()
        switch request {
        case .prepare(let ports):
            try prepare(ports)
        case .listeners(let address, let isDatagram, let namespace, let count):
            for _ in 0..<count {
                let socket = try makeSocket(isDatagram: isDatagram, isIPv6: !address.address.isIPv4)
                // Before listen: own_listeners must know at TCP_LISTEN that this is the mesh's.
                if marksPurpose { try mark(socket, mesh_purpose_kind.MESH_PURPOSE_LISTENER.rawValue, namespace) }
                try listen(socket, address, isDatagram: isDatagram)
                sockets.append(socket)
            }
        case .dialSockets(let purpose, let isDatagram, let isIPv6, let namespace, let count):
            for _ in 0..<count {
                let socket = try makeSocket(isDatagram: isDatagram, isIPv6: isIPv6)
                if marksPurpose { try mark(socket, purpose, namespace) }
                sockets.append(socket)
            }
        }
        return sockets
    }

    private static func makeSocket(isDatagram: Bool, isIPv6: Bool) throws(IOError) -> FileDescriptor {
        let number = isDatagram ? clinux_udp_socket(isIPv6 ? 1 : 0) : clinux_tcp_socket(isIPv6 ? 1 : 0)
        guard number >= 0 else { throw .last("socket") }
        return FileDescriptor(owning: number)
    }

    private static func mark(
        _ socket: borrowing FileDescriptor, _ kind: UInt32, _ namespace: NetworkNamespaceID
    ) throws(IOError) {
        var purpose = mesh_purpose(kind: kind, netns: namespace.rawValue)
        let size = MemoryLayout<mesh_purpose>.size
        guard clinux_set_option(socket.number, MESH_SOL, MESH_SO_PURPOSE, &purpose, size) == 0 else {
            throw .last("setsockopt MESH_SO_PURPOSE")
        }
    }

    private static func listen(
        _ socket: borrowing FileDescriptor, _ address: SocketAddress, isDatagram: Bool
    ) throws(IOError) {
        let isIPv4 = address.address.isIPv4
        var bytes = withUnsafeBytes(of: address.address.high.bigEndian) { Array($0) }
        bytes += withUnsafeBytes(of: address.address.low.bigEndian) { Array($0) }
        if isIPv4 { bytes.removeFirst(12) }
        let backlog = isDatagram ? 0 : backlog
        guard clinux_listen(socket.number, isIPv4 ? 0 : 1, bytes, address.port, backlog) == 0 else {
            throw .last("bind")
        }
    }

    private static func prepare(_ ports: [UInt16]) throws(IOError) {
        // /proc/sys/net is the calling thread's network namespace.
        let path = "/proc/sys/net/ipv4/ip_local_reserved_ports"
        let present = try TextFile.read(path)
        if let merged = PortRanges(parsing: present).adding(ports) { try TextFile.write(merged.description, to: path) }
        guard clinux_loopback_up() == 0 else { throw .last("ioctl SIOCSIFFLAGS") }
    }

    private static func leave(to home: borrowing NetworkNamespace) {
        // Sockets made in the wrong namespace would be worse than none: meshd starts another maker.
        do { try home.enter() } catch { exit(70) }
    }

    /// False when the time is over.
    @discardableResult
    private static func wait(
        _ socket: borrowing SeqpacketSocket, for events: Int32, milliseconds: Int32 = -1
    ) -> Bool {
        var poll = pollfd(fd: socket.descriptor.number, events: Int16(events), revents: 0)
        return Glibc.poll(&poll, 1, milliseconds) != 0
    }
}

/// The value of net.ipv4.ip_local_reserved_ports: `8080,15001-15008`.
package struct PortRanges: Equatable, CustomStringConvertible {
    package private(set) var ranges: [ClosedRange<UInt16>]

    /// What is not a range is left out: the kernel writes none.
    package init(parsing text: String) {
        ranges = text.split { $0 == "," || $0.isWhitespace }.compactMap { item in
            let ends = item.split(separator: "-").compactMap { UInt16($0) }
            guard let first = ends.first, let last = ends.last, first <= last else { return nil }
            return first...last
        }
    }

    /// With `ports` as well; nil when all are there already.
    package func adding(_ ports: [UInt16]) -> PortRanges? {
        let missing = ports.filter { port in !ranges.contains { $0.contains(port) } }
        guard !missing.isEmpty else { return nil }
        var result = self
        result.ranges += Set(missing).map { $0...$0 }
        result.ranges.sort { $0.lowerBound < $1.lowerBound }
        return result
    }

    package var description: String {
        ranges.map { $0.count == 1 ? "\($0.lowerBound)" : "\($0.lowerBound)-\($0.upperBound)" }.joined(separator: ",")
    }
}
