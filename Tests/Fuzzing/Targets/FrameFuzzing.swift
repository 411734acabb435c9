import CMeshABI
import HTTP2Framing

/// Input: size of the pieces, a byte whose lowest bit makes it a client's view, whose next one puts a lawful opening
/// before the rest; then frames. They must read the same in pieces as at once.
func fuzzFrames(_ input: UnsafeRawBufferPointer) {
    var reader = FuzzInput(input)
    let chunk = max(1, Int(reader.byte()))
    let options = reader.byte()
    let role: FrameDecoder.Role = options & 1 == 1 ? .client : .server
    var bytes: [UInt8] = []
    if options & 2 == 2 {
        if role == .server { bytes += Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) }
        bytes += [0, 0, 0, 4, 0, 0, 0, 0, 0]
    }
    bytes += Array(reader.rest)
    let whole = FrameDigest(bytes, role: role, chunk: .max)
    let cut = FrameDigest(bytes, role: role, chunk: chunk)
    precondition(whole == cut, "frames read otherwise in pieces of \(chunk)")
}

/// What a decoder said, summed up so that it does not depend on how DATA was cut.
private struct FrameDigest: Equatable {
    private var hash: UInt64 = 14_695_981_039_346_656_037
    private var flowControlled = 0
    private var left = 0

    init(_ bytes: [UInt8], role: FrameDecoder.Role, chunk: Int) {
        var decoder = FrameDecoder(role: role)
        var received: [UInt8] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            received += rest.prefix(chunk)
            rest = rest.dropFirst(chunk)
            let used = received.withUnsafeBytes { read($0, &decoder) }
            guard let used else { return }
            received.removeFirst(used)
        }
        left = received.count
    }

    /// Bytes used up; nil after a fault.
    private mutating func read(_ bytes: UnsafeRawBufferPointer, _ decoder: inout FrameDecoder) -> Int? {
        var offset = 0
        while true {
            let before = offset
            let event = decoder.next(in: bytes, offset: &offset)
            precondition(offset >= before && offset <= bytes.count, "the offset left the buffer")
            switch event {
            case .incomplete(let needed):
                precondition(needed > bytes.count - offset && needed <= FrameDecoder.bufferSizeMin)
                return offset
            case .connectionFault(let fault):
                mix(99, UInt64(fault.code.rawValue), UInt64(fault.reason.rawValue))
                return nil
            default:
                precondition(offset > before, "an event that used up nothing")
                take(event)
            }
        }
    }

    private mutating func take(_ event: FrameEvent) {
        switch event {
        case .data(let part):
            precondition(part.payload.count <= part.flowControlledBytes)
            if part.startsFrame { mix(1, UInt64(part.streamID), part.isEmptyFrame ? 1 : 0) }
            part.payload.forEach { mix(2, UInt64($0), 0) }
            if part.endsStream { mix(3, UInt64(part.streamID), 0) }
            flowControlled += Int(part.flowControlledBytes)
        case .headers(let part):
            mix(
                4, UInt64(part.streamID),
                (part.startsBlock ? 1 : 0) | (part.endsBlock ? 2 : 0) | (part.endsStream ? 4 : 0))
            part.block.forEach { mix(5, UInt64($0), 0) }
        case .reset(let streamID, let code): mix(6, UInt64(streamID), UInt64(code.rawValue))
        case .settings(let list): for entry in list { mix(7, UInt64(entry.identifier.rawValue), UInt64(entry.value)) }
        case .settingsAcknowledged: mix(8, 0, 0)
        case .ping(let payload, let isAcknowledgement): mix(9, payload, isAcknowledgement ? 1 : 0)
        case .goAway(let last, let code, let debug):
            mix(10, UInt64(last) << 32 | UInt64(code.rawValue), UInt64(debug.count))
        case .windowUpdate(let streamID, let increment):
            precondition(increment > 0 && increment <= 0x7fff_ffff)
            mix(11, UInt64(streamID), UInt64(increment))
        case .ignored(let type): mix(12, UInt64(type), 0)
        case .streamFault(let streamID, let fault): mix(13, UInt64(streamID), UInt64(fault.code.rawValue))
        case .incomplete, .connectionFault: break
        }
    }

    private mutating func mix(_ kind: UInt64, _ first: UInt64, _ second: UInt64) {
        for word in [kind, first, second] { hash = (hash ^ word) &* 1_099_511_628_211 }
    }
}
