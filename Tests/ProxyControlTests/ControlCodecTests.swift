import CMeshABI
import Glibc
import MeshModel
import ProxyControl
import Testing

@Suite struct ControlCodecTests {
    @Test func everySupervisorMessageComesBackAsItWasSent() throws {
        for message in Samples.supervisor {
            let decoded = try message.encode().withUnsafeBytes { try SupervisorMessage(decoding: $0) }
            #expect(decoded == message)
        }
    }

    @Test func everyProxyMessageComesBackAsItWasSent() throws {
        for message in Samples.proxy {
            let decoded = try message.encode().withUnsafeBytes { try ProxyMessage(decoding: $0) }
            #expect(decoded == message)
        }
    }

    /// But where an earlier version ended.
    @Test func messagesCutAtAnyByteAreRefused() {
        for sample in Samples.supervisor {
            let message = sample.encode()
            for count in 0..<message.count where count != message.count - Samples.appendedBytes(of: sample) {
                message.withUnsafeBytes { bytes in
                    let cut = UnsafeRawBufferPointer(rebasing: bytes[..<count])
                    #expect(throws: ControlError.self) { try SupervisorMessage(decoding: cut) }
                }
            }
        }
        for sample in Samples.proxy {
            let message = sample.encode()
            for count in 0..<message.count where count != message.count - Samples.appendedBytes(of: sample) {
                message.withUnsafeBytes { bytes in
                    let cut = UnsafeRawBufferPointer(rebasing: bytes[..<count])
                    #expect(throws: ControlError.self) { try ProxyMessage(decoding: cut) }
                }
            }
        }
    }

    @Test func messagesOfAnEarlierVersionKeepTheirMeaning() throws {
        let drain = SupervisorMessage.drain(deadlineMilliseconds: 7, listenersStay: true).encode().dropLast()
        let decoded = try Array(drain).withUnsafeBytes { try SupervisorMessage(decoding: $0) }
        #expect(decoded == .drain(deadlineMilliseconds: 7, listenersStay: false))
        for sample in Samples.proxy {
            guard case .hello(var hello) = sample else { continue }
            let decoded = try Array(sample.encode().dropLast()).withUnsafeBytes { try ProxyMessage(decoding: $0) }
            hello.isDraining = false
            #expect(decoded == .hello(hello))
        }
    }

    @Test func longerBodiesOfALaterVersionAreTaken() throws {
        for message in Samples.proxy {
            let decoded = try (message.encode() + [1, 2, 3]).withUnsafeBytes { try ProxyMessage(decoding: $0) }
            #expect(decoded == message)
        }
    }

    @Test func randomAndDamagedBytesNeverTrap() {
        var random = SystemRandomNumberGenerator()
        let samples = Samples.proxy.map { $0.encode() } + Samples.supervisor.map { $0.encode() }
        for round in 0..<20_000 {
            var bytes: [UInt8]
            if round % 2 == 0 {
                bytes = (0..<Int.random(in: 0...96)).map { _ in random.next() }
                // Get past the header, or most rounds end there.
                if bytes.count > 1 { (bytes[0], bytes[1]) = (bytes[0] % 14, 1) }
            } else {
                bytes = samples[Int.random(in: 0..<samples.count)]
                for _ in 0..<Int.random(in: 1...8) { bytes[Int.random(in: 0..<bytes.count)] = random.next() }
            }
            bytes.withUnsafeBytes {
                _ = try? ProxyMessage(decoding: $0)
                _ = try? SupervisorMessage(decoding: $0)
            }
        }
    }

    @Test func listsThatAreTooLongAreSplitIntoWholeMessages() throws {
        let records = (0..<9_000).map { index in
            ConnectionClosed(
                id: UInt64(index), bytesSent: 1, bytesReceived: 2, reason: Samples.reason(106), connectMicroseconds: 3,
                firstByteMicroseconds: 4, closedNanoseconds: 5)
        }
        var decoded: [ConnectionClosed] = []
        for part in ProxyMessage.closed(records).encodeParts() {
            #expect(part.count <= ControlLimits.bodyBytesMax)
            guard case .closed(let some) = try part.withUnsafeBytes({ try ProxyMessage(decoding: $0) }) else {
                Issue.record("a part of another kind")
                return
            }
            decoded += some
        }
        #expect(decoded == records)
    }

    @Test func textsAreCutOnlyBetweenCharacters() throws {
        let long = String(repeating: "é", count: 2_000)
        let message = ProxyMessage.refused([
            PeerRefusal(reason: Samples.reason(36), peer: Samples.peer, principal: "", subject: "x" + long)
        ])
        guard case .refused(let records) = try message.encode().withUnsafeBytes({ try ProxyMessage(decoding: $0) })
        else {
            Issue.record("another kind")
            return
        }
        #expect(records[0].subject == "x" + long.prefix(1_023))
    }

    @Test func aCountWithoutElementsReservesNothing() {
        // `opened`, with a list of 2^32 - 1 elements.
        let bytes: [UInt8] = [6, 1, 255, 255, 255, 255]
        _ = bytes.withUnsafeBytes { bytes in
            #expect(throws: ControlError.truncated(field: "opened")) { try ProxyMessage(decoding: bytes) }
        }
    }

    @Test func reasonsAreAcceptedExactlyAsListed() throws {
        let header = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let text = try #require(read("/\(header)/bpf/abi/mesh_reason.h"))
        var listed: Set<UInt16> = []
        let words = text.split { $0.isWhitespace || $0 == "," }
        for (index, word) in words.enumerated() where word.hasPrefix("MESH_REASON_") && word != "MESH_REASON_MAX" {
            guard index + 2 < words.count, words[index + 1] == "=" else { continue }
            listed.insert(try #require(UInt16(words[index + 2])))
        }
        #expect(listed.count > 60)
        let taken = Set((UInt16.min...UInt16.max).filter { Reason(listed: $0) != nil })
        #expect(taken == listed)
    }

    private func read(_ path: String) -> String? {
        guard let file = fopen(path, "r") else { return nil }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        while case let next = fgetc(file), next != EOF { bytes.append(UInt8(next)) }
        return String(decoding: bytes, as: UTF8.self)
    }
}
