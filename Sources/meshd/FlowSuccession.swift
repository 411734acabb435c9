import CMeshABI
import LinuxIO
import MeshModel
import ProxyControl
import Telemetry

/// The open flows of the proxies, left by a meshd that ends to the one that follows: a file in the runtime directory, in
/// the form in which proxies tell of connections, read once.
struct FlowSuccession {
    private static let bytesMax = 64 << 20
    private let path: String
    /// Beside it the sockets of those that have been told of to their end: 8 bytes each.
    private var toldPath: String { path + "-told" }

    init(runtimeDirectory: String) { path = runtimeDirectory + "/flows" }

    func save(told sockets: [UInt64]) throws(IOError) {
        try TextFile.replace(
            toldPath, with: sockets.flatMap { socket in withUnsafeBytes(of: socket.littleEndian, Array.init) })
    }

    /// Read once, as `take`.
    func takeTold() -> [UInt64] {
        guard let bytes = try? TextFile.readBytes(toldPath, limitBytes: Self.bytesMax) else { return [] }
        TextFile.remove(toldPath)
        return bytes.withUnsafeBytes { bytes in
            stride(from: 0, to: bytes.count - 7, by: 8).map {
                UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: $0, as: UInt64.self))
            }
        }
    }

    func save(_ flows: [FlowInheritance]) throws(IOError) {
        var bytes: [UInt8] = []
        for (proxy, flows) in Dictionary(grouping: flows, by: \.opened.proxy).sorted(by: { $0.key < $1.key }) {
            let ends = flows.map { ConnectionClosed(bytesOf: $0) }
            let parts =
                ProxyMessage.opened(flows.map { ConnectionOpened($0.opened) }).encodeParts()
                + ProxyMessage.closed(ends).encodeParts()
            for part in parts {
                withUnsafeBytes(of: proxy.littleEndian) { bytes += $0 }
                withUnsafeBytes(of: UInt32(part.count).littleEndian) { bytes += $0 }
                bytes += part
            }
        }
        try TextFile.replace(path, with: bytes)
    }

    /// By proxy. What can't be understood is left out: flows without their names are still seen by the kernel.
    func take() -> [Int32: [FlowInheritance]] {
        guard let bytes = try? TextFile.readBytes(path, limitBytes: Self.bytesMax) else { return [:] }
        TextFile.remove(path)
        var opened: [Int32: [ConnectionOpened]] = [:]
        var ends: [Int32: [UInt64: ConnectionClosed]] = [:]
        bytes.withUnsafeBytes { bytes in
            var offset = 0
            while bytes.count - offset >= 8 {
                let proxy = Int32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Int32.self))
                let size = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self))
                let end = offset + 8 + Int(size)
                guard end <= bytes.count else { return }
                switch try? ProxyMessage(decoding: UnsafeRawBufferPointer(rebasing: bytes[(offset + 8)..<end])) {
                case .opened(let list): opened[proxy, default: []] += list
                case .closed(let list): for one in list { ends[proxy, default: [:]][one.id] = one }
                default: break
                }
                offset = end
            }
        }
        return opened.reduce(into: [:]) { result, entry in
            result[entry.key] = entry.value.map { opened in
                let end = ends[entry.key]?[opened.id]
                return FlowInheritance(
                    opened: ProxyFlowOpened(opened, proxy: entry.key), bytesSent: end?.bytesSent ?? 0,
                    bytesReceived: end?.bytesReceived ?? 0)
            }
        }
    }
}

extension ConnectionOpened {
    fileprivate init(_ flow: ProxyFlowOpened) {
        let direction: ConnectionDirection =
            switch flow.direction {
            case .outbound: .outbound
            case .inbound: .inbound
            case .local: .local
            }
        self.init(
            id: flow.id, direction: direction, cookie: flow.cookie, dialCookie: flow.dialCookie,
            sourceWorkload: flow.sourceWorkload, destinationWorkload: flow.destinationWorkload, service: flow.service,
            sourcePrincipal: flow.sourcePrincipal, destinationPrincipal: flow.destinationPrincipal,
            source: flow.source, originalDestination: flow.originalDestination, upstream: flow.originalDestination,
            peerNode: flow.peerNode, tunnel: flow.tunnel, allowed: flow.allowed, reason: flow.reason,
            policyGeneration: 0, openedNanoseconds: flow.openedNanoseconds, decidedBy: flow.decidedBy,
            dryRunDenial: flow.dryRunDenial)
    }
}

extension ConnectionClosed {
    /// Not an end: the bytes so far.
    fileprivate init(bytesOf flow: FlowInheritance) {
        self.init(
            id: flow.opened.id, bytesSent: flow.bytesSent, bytesReceived: flow.bytesReceived,
            reason: .MESH_REASON_NONE, connectMicroseconds: 0, firstByteMicroseconds: 0, closedNanoseconds: 0)
    }
}
