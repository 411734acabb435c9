import MeshModel

extension ProxyMessage {
    private enum Kind: UInt8 {
        case hello = 1, snapshotInUse, needDialSockets, nodeUnreachable, nodeReachable, opened, closed, refused
        case tunnels, counters, drained, listener, nameResolved
    }

    /// The message's bytes. A list can be too long for one message: then use `encodeParts`.
    package func encode() -> [UInt8] {
        var writer = WireWriter(kind: kind.rawValue)
        switch self {
        case .hello(let hello): writer.hello(hello)
        case .snapshotInUse(let version): writer.number(version)
        case .needDialSockets(let pool, let count):
            writer.pool(pool)
            writer.number(count)
        case .nodeUnreachable(let node, let code, let reason):
            writer.number(node.rawValue)
            writer.number(code)
            writer.reason(reason)
        case .nodeReachable(let node): writer.number(node.rawValue)
        case .opened(let records): writer.list(records) { $0.opened($1) }
        case .closed(let records): writer.list(records) { $0.closed($1) }
        case .refused(let records): writer.list(records) { $0.refusal($1) }
        case .tunnels(let records): writer.list(records) { $0.tunnel($1) }
        case .counters(let counters): writer.counters(counters)
        case .drained: break
        case .listener(let listener): writer.listener(listener)
        case .nameResolved(let resolution): writer.resolution(resolution)
        }
        return writer.bytes
    }

    /// The same, a list split so that each part is a whole message within `ControlLimits`. A list of tunnels that is
    /// split arrives as several `tunnels` messages.
    package func encodeParts() -> [[UInt8]] {
        switch self {
        case .opened(let records): Self.split(records) { .opened($0) }
        case .closed(let records): Self.split(records) { .closed($0) }
        case .refused(let records): Self.split(records) { .refused($0) }
        case .tunnels(let records): Self.split(records) { .tunnels($0) }
        case .hello, .snapshotInUse, .needDialSockets, .nodeUnreachable, .nodeReachable, .counters, .drained, .listener,
            .nameResolved:
            [encode()]
        }
    }

    package init(decoding bytes: UnsafeRawBufferPointer) throws(ControlError) {
        var (number, body) = try WireReader.open(bytes)
        guard let kind = Kind(rawValue: number) else { throw .unknownKind(number) }
        switch kind {
        case .hello: self = .hello(try body.hello())
        case .snapshotInUse: self = .snapshotInUse(version: try body.number("version"))
        case .needDialSockets:
            let pool = try body.pool()
            self = .needDialSockets(pool: pool, count: try body.number("count"))
        case .nodeUnreachable:
            let node = try body.node("node")
            let code = try body.number("errno", as: Int32.self)
            self = .nodeUnreachable(node, errno: code, reason: try body.reason())
        case .nodeReachable: self = .nodeReachable(try body.node("node"))
        case .opened:
            self = .opened(try body.list("opened") { (reader) throws(ControlError) in try reader.opened() })
        case .closed:
            self = .closed(try body.list("closed") { (reader) throws(ControlError) in try reader.closed() })
        case .refused:
            self = .refused(try body.list("refused") { (reader) throws(ControlError) in try reader.refusal() })
        case .tunnels:
            self = .tunnels(try body.list("tunnels") { (reader) throws(ControlError) in try reader.tunnel() })
        case .counters: self = .counters(try body.counters())
        case .drained: self = .drained
        case .listener: self = .listener(try body.listener())
        case .nameResolved: self = .nameResolved(try body.resolution())
        }
    }

    private var kind: Kind {
        switch self {
        case .hello: .hello
        case .snapshotInUse: .snapshotInUse
        case .needDialSockets: .needDialSockets
        case .nodeUnreachable: .nodeUnreachable
        case .nodeReachable: .nodeReachable
        case .opened: .opened
        case .closed: .closed
        case .refused: .refused
        case .tunnels: .tunnels
        case .counters: .counters
        case .drained: .drained
        case .listener: .listener
        case .nameResolved: .nameResolved
        }
    }

    private static func split<Record>(_ records: [Record], _ make: ([Record]) -> ProxyMessage) -> [[UInt8]] {
        if records.count <= ControlLimits.elementsMax {
            let bytes = make(records).encode()
            if bytes.count <= ControlLimits.bodyBytesMax || records.count < 2 { return [bytes] }
        }
        let middle = records.count / 2
        return split(Array(records[..<middle]), make) + split(Array(records[middle...]), make)
    }
}
