import HTTP2Framing
import Testing

@Suite struct FrameWriterTests {
    private func written(_ capacity: Int, _ write: (UnsafeMutableRawBufferPointer) -> Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: capacity) { buffer, count in
            count = write(UnsafeMutableRawBufferPointer(buffer))
        }
    }

    private func fixed(_ size: Int, _ write: (UnsafeMutableRawPointer) -> Void) -> [UInt8] {
        written(size) { buffer in
            if let base = buffer.baseAddress { write(base) }
            return size
        }
    }

    @Test func headersOfFramesComeBackAsTheyWereWritten() {
        for length: UInt32 in [0, 1, 255, 16_384, 0xff_ffff] {
            for streamID: UInt32 in [0, 1, 0x1234_5679, FrameHeader.streamIDMax] {
                let header = FrameHeader(length: length, type: .data, flags: [.padded, .endStream], streamID: streamID)
                let bytes = fixed(FrameHeader.size) { header.write(to: $0) }
                #expect(bytes == frame(0, flags: 9, stream: streamID, length: Int(length)))
                let read = bytes.withUnsafeBytes { $0.baseAddress.map { FrameHeader(reading: $0) } }
                #expect(read == header)
            }
        }
    }

    @Test func theReservedBitIsDropped() {
        let read = frame(0, stream: 0x8000_0003).withUnsafeBytes { $0.baseAddress.map { FrameHeader(reading: $0) } }
        #expect(read?.streamID == 3)
    }

    @Test func smallFramesAreThoseOfTheRFC() {
        #expect(
            fixed(FrameWriter.dataHeaderSize) {
                FrameWriter.dataHeader(length: 16_375, streamID: 5, endsStream: true, to: $0)
            } == frame(0, flags: 1, stream: 5, length: 16_375))
        #expect(
            fixed(FrameWriter.windowUpdateSize) { FrameWriter.windowUpdate(streamID: 3, increment: 77, to: $0) }
                == frame(8, stream: 3, word(77)))
        #expect(
            fixed(FrameWriter.resetSize) { FrameWriter.reset(streamID: 3, code: .connectError, to: $0) }
                == frame(3, stream: 3, word(10)))
        #expect(
            fixed(FrameWriter.pingSize) {
                FrameWriter.ping(payload: 0x0102_0304_0506_0708, isAcknowledgement: true, to: $0)
            } == frame(6, flags: 1, [1, 2, 3, 4, 5, 6, 7, 8]))
        #expect(
            fixed(FrameWriter.settingsAcknowledgementSize) { FrameWriter.settingsAcknowledgement(to: $0) }
                == frame(4, flags: 1))
        #expect(fixed(FrameWriter.clientPrefaceSize) { FrameWriter.clientPreface(to: $0) } + frame(4) == opening)
    }

    @Test func settingsAndGoAwayCarryWhatTheyAreGiven() {
        let settings = [Setting(.maxConcurrentStreams, 10_000), Setting(.enablePush, 0)]
        #expect(
            written(FrameWriter.settingsSize(settings)) { FrameWriter.settings(settings, to: $0) }
                == frame(4, [0, 3, 0, 0, 0x27, 0x10, 0, 2, 0, 0, 0, 0]))
        let debug = [UInt8](repeating: 0x61, count: 300)
        let goAway = debug.withUnsafeBytes { debug in
            written(FrameWriter.goAwaySize(debugDataCount: debug.count)) {
                FrameWriter.goAway(lastStreamID: 9, code: .enhanceYourCalm, debugData: debug, to: $0)
            }
        }
        #expect(goAway == frame(7, word(9) + word(11) + debug.prefix(256)))
    }

    @Test func longBlocksGoOnInContinuation() {
        for (count, expected) in [(0, [0]), (1, [1]), (100, [100]), (101, [100, 1]), (250, [100, 100, 50])] {
            let block = (0..<count).map { UInt8($0) }
            let size = FrameWriter.headersSize(blockCount: count, frameSizeMax: 100)
            let bytes = block.withUnsafeBytes { block in
                written(size) {
                    FrameWriter.headers(block: block, streamID: 7, endsStream: true, frameSizeMax: 100, to: $0)
                }
            }
            #expect(bytes.count == size)
            var rest = bytes[...]
            var joined: [UInt8] = []
            for (index, part) in expected.enumerated() {
                let isFirst = index == 0
                let isLast = index == expected.count - 1
                let flags: UInt8 = (isFirst ? 1 : 0) | (isLast ? 4 : 0)
                let header = frame(isFirst ? 1 : 9, flags: flags, stream: 7, length: part)
                #expect(Array(rest.prefix(9)) == header)
                joined += rest.dropFirst(9).prefix(part)
                rest = rest.dropFirst(9 + part)
            }
            #expect(joined == block && rest.isEmpty)
        }
    }
}
