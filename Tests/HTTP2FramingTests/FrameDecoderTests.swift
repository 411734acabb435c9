import CMeshABI
import HTTP2Framing
import Testing

@Suite struct FrameDecoderTests {
    /// One frame of each kind that a server may see, and some padding.
    static let everything: [UInt8] =
        opening + frame(4, [0, 4, 0, 1, 0, 0, 0, 3, 0, 0, 0x27, 0x10]) + frame(4, flags: 1)
        + frame(1, flags: 0x4, stream: 1, [0x82, 0x86])
        + frame(1, flags: 0x29, stream: 3, [2, 0, 0, 0, 0, 16, 0x88, 0x89, 0, 0]) + frame(9, stream: 3, [0x84])
        + frame(9, flags: 4, stream: 3, [0x85])
        + frame(0, stream: 1, Array("hello".utf8)) + frame(0, flags: 8, stream: 1, [3, 65, 66, 0, 0, 0])
        + frame(0, flags: 8, stream: 1, [0]) + frame(0, stream: 1) + frame(0, flags: 9, stream: 1, [1, 0])
        + frame(6, [1, 2, 3, 4, 5, 6, 7, 8]) + frame(6, flags: 1, [0, 0, 0, 0, 0, 0, 0, 9])
        + frame(8, word(0x8000_0001)) + frame(8, stream: 1, word(0x7fff_ffff)) + frame(8, stream: 1, word(0))
        + frame(2, stream: 4, [0, 0, 0, 0, 1]) + frame(0x2a, flags: 0xff, stream: 77, [1, 2, 3])
        + frame(3, stream: 3, word(8)) + frame(7, word(5) + word(0xb) + [0x68, 0x69])

    static let everythingRead = [
        "settings ", "settings 4=65536 3=10000", "settings acknowledged", "headers 1 [130, 134] first last",
        "headers 3 [136, 137] first end", "headers 3 [132] end", "headers 3 [133] last end",
        "data 1 [104, 101, 108, 108, 111] flow 5", "data 1 [65, 66] flow 6", "data 1 [] flow 1 empty",
        "data 1 [] flow 0 empty", "data 1 [] flow 2 end", "ping 72623859790382856 false", "ping 9 true", "window 0 1",
        "window 1 2147483647", "stream fault 1 1", "ignored 2", "ignored 42", "reset 3 8", "goaway 5 11 [104, 105]",
    ]

    @Test func readsEveryFrameOfTheRFC() {
        #expect(FrameTrace(Self.everything).events == Self.everythingRead)
    }

    @Test func readsTheSameWhereverTheBytesAreCut() {
        for chunk in 1...Self.everything.count {
            #expect(FrameTrace(Self.everything, chunk: chunk).events == Self.everythingRead, "chunks of \(chunk)")
        }
    }

    @Test func aClientExpectsSettingsAtOnce() {
        #expect(FrameTrace(frame(4), role: .client).events == ["settings "])
        #expect(FrameTrace(frame(6, [0, 0, 0, 0, 0, 0, 0, 0]), role: .client).events == [protocolError])
        #expect(FrameTrace(frame(4, flags: 1), role: .client).events == [protocolError])
    }

    @Test func aWrongPrefaceIsRefusedAtItsFirstWrongByte() {
        #expect(FrameTrace(Array("GET / HTTP/1.1\r\n".utf8), chunk: 1).events == [protocolError])
        #expect(FrameTrace(Array("PRI * HTTP/2.0\r\n\r\nSX".utf8)).events == [protocolError])
        #expect(FrameTrace(Array("PRI * HT".utf8)).events == ["left 8"])
    }

    private static let refused: [(what: String, bytes: [UInt8], fault: String)] = [
        ("a frame above the maximum", frame(0, stream: 1, length: 16_385), frameSize),
        ("an unknown type above the maximum", frame(0x50, length: 0xff_ffff), frameSize),
        ("DATA on the connection", frame(0, [1]), protocolError),
        ("DATA on a server's stream", frame(0, stream: 2, [1]), protocolError),
        ("padded DATA without a pad length", frame(0, flags: 8, stream: 1), frameSize),
        ("DATA with padding longer than itself", frame(0, flags: 8, stream: 1, [2, 0]), protocolError),
        ("HEADERS on the connection", frame(1, flags: 4, [0x82]), protocolError),
        ("HEADERS too short for their priority", frame(1, flags: 0x24, stream: 1, [0, 0]), frameSize),
        ("HEADERS too short for their pad length", frame(1, flags: 0xc, stream: 1), frameSize),
        ("HEADERS with padding longer than themselves", frame(1, flags: 0xc, stream: 1, [9, 0]), protocolError),
        ("CONTINUATION without HEADERS", frame(9, flags: 4, stream: 1, [0x82]), protocolError),
        ("a frame inside a header block", frame(1, stream: 1, [0x82]) + frame(6, [0, 0, 0, 0, 0, 0, 0, 0]), inBlock),
        ("CONTINUATION of another stream", frame(1, stream: 1, [0x82]) + frame(9, stream: 3, [0x82]), inBlock),
        ("an unknown type inside a header block", frame(1, stream: 1, [0x82]) + frame(0x50), inBlock),
        ("PRIORITY on the connection", frame(2, [0, 0, 0, 0, 0]), protocolError),
        ("RST_STREAM on the connection", frame(3, word(8)), protocolError),
        ("RST_STREAM of three bytes", frame(3, stream: 1, [0, 0, 8]), frameSize),
        ("SETTINGS on a stream", frame(4, stream: 1), protocolError),
        ("SETTINGS of five bytes", frame(4, [0, 4, 0, 0, 0]), frameSize),
        ("an acknowledgement of SETTINGS with entries", frame(4, flags: 1, [0, 4, 0, 0, 0, 0]), frameSize),
        ("PUSH_PROMISE", frame(5, flags: 4, stream: 1, [0, 0, 0, 2]), protocolError),
        ("PING on a stream", frame(6, stream: 1, [0, 0, 0, 0, 0, 0, 0, 0]), protocolError),
        ("PING of seven bytes", frame(6, [0, 0, 0, 0, 0, 0, 0]), frameSize),
        ("GOAWAY on a stream", frame(7, stream: 1, [0, 0, 0, 0, 0, 0, 0, 0]), protocolError),
        ("GOAWAY of seven bytes", frame(7, [0, 0, 0, 0, 0, 0, 0]), frameSize),
        ("WINDOW_UPDATE on a server's stream", frame(8, stream: 2, word(1)), protocolError),
        ("WINDOW_UPDATE of nothing on the connection", frame(8, word(0)), protocolError),
        ("WINDOW_UPDATE of three bytes", frame(8, [0, 0, 1]), frameSize),
    ]

    @Test func refusesWhatTheRFCForbids() {
        for (what, bytes, fault) in Self.refused {
            for chunk in [1, 7, .max] {
                #expect(FrameTrace(opening + bytes, chunk: chunk).events.last == fault, "\(what), chunks of \(chunk)")
            }
        }
    }

    @Test func aFaultIsSaidAgainAndNothingAfterItIsRead() {
        var decoder = FrameDecoder(role: .client)
        let bytes = frame(4) + frame(3, word(8)) + frame(4)
        bytes.withUnsafeBytes { bytes in
            var offset = 0
            _ = decoder.next(in: bytes, offset: &offset)
            for _ in 0..<3 {
                guard case .connectionFault(.protocolError) = decoder.next(in: bytes, offset: &offset) else {
                    Issue.record("no fault")
                    return
                }
                #expect(offset == 9)
            }
        }
    }

    @Test func aHeaderBlockHasBounds() {
        let begin = opening + frame(1, stream: 1, [0x82])
        let eight = begin + (0..<8).flatMap { _ in frame(9, stream: 1, [0x82]) }
        #expect(FrameTrace(eight).events.count == 10)
        let nine = FrameTrace(eight + frame(9, stream: 1, [0x82])).events.last
        #expect(nine == "fault 11 \(mesh_reason.MESH_REASON_CONTINUATION_FLOOD.rawValue)")
        let large = frame(9, stream: 1, [UInt8](repeating: 0x82, count: 16_384))
        let tooLarge = FrameTrace(begin + large + large + large + large).events.last
        #expect(tooLarge == "fault 11 \(mesh_reason.MESH_REASON_HEADERS_TOO_LARGE.rawValue)")
    }

    @Test func emptyContinuationsAreAFloodToo() {
        let bytes = opening + frame(1, stream: 1) + (0..<20).flatMap { _ in frame(9, stream: 1) }
        #expect(FrameTrace(bytes).events.last == "fault 11 \(mesh_reason.MESH_REASON_CONTINUATION_FLOOD.rawValue)")
    }

    @Test func dataIsHandedOutBeforeItsFrameIsComplete() {
        var decoder = FrameDecoder(role: .client)
        let bytes = frame(4) + frame(0, flags: 1, stream: 1, [7, 8], length: 10_000)
        bytes.withUnsafeBytes { bytes in
            var offset = 0
            _ = decoder.next(in: bytes, offset: &offset)
            guard case .data(let first) = decoder.next(in: bytes, offset: &offset) else {
                Issue.record("no DATA")
                return
            }
            #expect(Array(first.payload) == [7, 8] && !first.endsStream && offset == bytes.count)
            #expect(first.payload.baseAddress == bytes.baseAddress.map { $0 + 18 }, "the payload was copied")
            guard case .incomplete(bytesNeeded: 1) = decoder.next(in: bytes, offset: &offset) else {
                Issue.record("more than there is")
                return
            }
        }
    }

    @Test func randomBytesAreReadTheSameHoweverTheyAreCut() {
        var random = SystemRandomNumberGenerator()
        for round in 0..<3_000 {
            var bytes =
                round % 3 == 0 ? (0..<80).map { _ in UInt8.random(in: 0...255, using: &random) } : Self.everything
            if round % 3 == 0 {
                // Get past the length check, or every round ends there.
                for start in stride(from: 0, to: 72, by: 24) { (bytes[start], bytes[start + 1]) = (0, 0) }
                bytes = opening + bytes
            } else {
                for _ in 0...Int.random(in: 0...3) {
                    bytes[Int.random(in: 33..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
                }
            }
            let whole = FrameTrace(bytes)
            #expect(FrameTrace(bytes, chunk: Int.random(in: 1...40)).events == whole.events, "\(bytes)")
        }
    }
}

private let protocolError = "fault 1 \(mesh_reason.MESH_REASON_PROTOCOL_ERROR.rawValue)"
private let inBlock = protocolError
private let frameSize = "fault 6 \(mesh_reason.MESH_REASON_PROTOCOL_ERROR.rawValue)"
