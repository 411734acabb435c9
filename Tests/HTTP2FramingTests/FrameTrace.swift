import CMeshABI
import HTTP2Framing

/// What a decoder said about some bytes, as text that does not depend on how they were cut: fragments of DATA are put
/// together again.
struct FrameTrace {
    private(set) var events: [String] = []
    private var data: (streamID: UInt32, payload: [UInt8], flow: UInt32, isEmpty: Bool)?

    /// Hands `bytes` to a decoder in pieces of `chunk`, as a receive buffer would: what was used up is gone.
    init(_ bytes: [UInt8], role: FrameDecoder.Role = .server, chunk: Int = .max, frameSizeMax: Int = 16_384) {
        var decoder = FrameDecoder(role: role, frameSizeMax: frameSizeMax)
        var received: [UInt8] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            received += rest.prefix(chunk)
            rest = rest.dropFirst(chunk)
            let used = received.withUnsafeBytes { Self.read($0, &decoder, &self) }
            received.removeFirst(used)
            if events.last?.hasPrefix("fault") == true { return }
        }
        if !received.isEmpty { events.append("left \(received.count)") }
    }

    private init() {}

    private static func read(
        _ bytes: UnsafeRawBufferPointer, _ decoder: inout FrameDecoder, _ trace: inout FrameTrace
    ) -> Int {
        var offset = 0
        while true {
            let event = decoder.next(in: bytes, offset: &offset)
            precondition(offset <= bytes.count)
            switch event {
            case .incomplete(let needed):
                precondition(needed > bytes.count - offset)
                return offset
            case .data(let fragment): trace.take(fragment)
            case .connectionFault(let fault):
                trace.events.append("fault \(fault.code.rawValue) \(fault.reason.rawValue)")
                return offset
            default: trace.events.append(Self.text(event))
            }
        }
    }

    private mutating func take(_ fragment: DataFragment) {
        if fragment.startsFrame { data = (fragment.streamID, [], 0, fragment.isEmptyFrame) }
        data?.payload += fragment.payload
        data?.flow += fragment.flowControlledBytes
        // A frame without END_STREAM has no last fragment of its own: its text is replaced as it grows.
        if !fragment.startsFrame { events.removeLast() }
        guard let data else { return }
        let marks = (data.isEmpty ? " empty" : "") + (fragment.endsStream ? " end" : "")
        events.append("data \(data.streamID) \(data.payload) flow \(data.flow)\(marks)")
    }

    private static func text(_ event: FrameEvent) -> String {
        switch event {
        case .headers(let part):
            let marks = [part.startsBlock ? "first" : "", part.endsBlock ? "last" : "", part.endsStream ? "end" : ""]
            return
                "headers \(part.streamID) \(Array(part.block)) \(marks.filter { !$0.isEmpty }.joined(separator: " "))"
        case .reset(let streamID, let code): return "reset \(streamID) \(code.rawValue)"
        case .settings(let list):
            return "settings " + list.map { "\($0.identifier.rawValue)=\($0.value)" }.joined(separator: " ")
        case .settingsAcknowledged: return "settings acknowledged"
        case .ping(let payload, let isAcknowledgement): return "ping \(payload) \(isAcknowledgement)"
        case .goAway(let last, let code, let debug): return "goaway \(last) \(code.rawValue) \(Array(debug))"
        case .windowUpdate(let streamID, let increment): return "window \(streamID) \(increment)"
        case .ignored(let type): return "ignored \(type)"
        case .streamFault(let streamID, let fault): return "stream fault \(streamID) \(fault.code.rawValue)"
        case .incomplete, .data, .connectionFault: return "never here"
        }
    }
}

/// A frame as bytes, lawful or not.
func frame(_ type: UInt8, flags: UInt8 = 0, stream: UInt32 = 0, _ payload: [UInt8] = [], length: Int? = nil) -> [UInt8]
{
    let length = length ?? payload.count
    return [UInt8(length >> 16 & 255), UInt8(length >> 8 & 255), UInt8(length & 255), type, flags]
        + word(stream) + payload
}

func word(_ value: UInt32) -> [UInt8] {
    [UInt8(value >> 24), UInt8(value >> 16 & 255), UInt8(value >> 8 & 255), UInt8(value & 255)]
}

/// What a client's connection begins with.
let opening = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8) + frame(4)
