import Glibc
import LinuxIO
import Testing

@Suite struct SeqpacketSocketTests {
    @Test func messagesKeepTheirBoundsAndBringTheirDescriptors() throws {
        let pair = try SeqpacketSocket.pair()
        let memory = try SealedMemory(name: "test", bytes: [UInt8](repeating: 42, count: 10))
        let sentFirst = try pair.first.send([1, 2, 3], descriptors: DescriptorBatch(memory.descriptor.duplicate()))
        let sentSecond = try pair.first.send([4])
        #expect(sentFirst && sentSecond)
        var buffer = [UInt8](repeating: 0, count: 64)
        guard case .message(let count, var descriptors) = try receive(pair.second, &buffer) else {
            Issue.record("no message")
            return
        }
        let passedCount = descriptors.count
        #expect(count == 3 && passedCount == 1)
        guard let passed = descriptors.takeFirst() else { return }
        let mapping = try SealedMemory(passed).map()
        #expect(mapping.bytes.elementsEqual(Array(repeating: 42, count: 10)))
        guard case .message(1, _) = try receive(pair.second, &buffer) else {
            Issue.record("second message")
            return
        }
        guard case .nothing = try receive(pair.second, &buffer) else {
            Issue.record("a third message")
            return
        }
    }

    @Test func aFullSocketSaysSoAndLosesNothing() throws {
        let pair = try SeqpacketSocket.pair()
        let message = [UInt8](repeating: 1, count: 160_000)
        var sent = 0
        while try pair.first.send(message) { sent += 1 }
        #expect(sent >= 1)
        var buffer = [UInt8](repeating: 0, count: 200_000)
        var received = 0
        while case .message(160_000, _) = try receive(pair.second, &buffer) { received += 1 }
        #expect(received == sent)
    }

    @Test func aMessageLongerThanTheBufferIsAnErrorAndLeaksNothing() throws {
        let pair = try SeqpacketSocket.pair()
        let probe = try SeqpacketSocket.pair()
        let passed = try DescriptorBatch(probe.second.descriptor.duplicate())
        let sent = try pair.first.send([1, 2, 3], descriptors: passed)
        _ = consume passed
        let watched = try SeqpacketSocket(probe.first.descriptor.duplicate())
        _ = consume probe
        #expect(sent)
        var buffer = [UInt8](repeating: 0, count: 2)
        do {
            _ = try receive(pair.second, &buffer)
            Issue.record("no error")
        } catch { #expect(error == IOError("recvmsg", code: EMSGSIZE)) }
        guard case .closed = try receive(watched, &buffer) else {
            Issue.record("the passed descriptor is still open")
            return
        }
    }

    @Test func theOtherEndsCloseIsSeen() throws {
        let pair = try SeqpacketSocket.pair()
        let second = try pair.second.descriptor.duplicate()
        _ = consume pair
        var buffer = [UInt8](repeating: 0, count: 2)
        guard case .closed = try receive(SeqpacketSocket(second), &buffer) else {
            Issue.record("still open")
            return
        }
    }

    @Test func aListenerKnowsWhoConnected() throws {
        let path = "/tmp/culvert-seqpacket-\(getpid())"
        defer { unlink(path) }
        let listener = try SeqpacketSocket.listen(path: path)
        let client = try SeqpacketSocket.connect(path: path)
        guard let server = try listener.accept() else {
            Issue.record("nobody connected")
            return
        }
        let peer = try server.peer()
        #expect(peer.pid == getpid() && peer.uid == getuid())
        let sent = try client.send([9])
        #expect(sent)
        var buffer = [UInt8](repeating: 0, count: 2)
        guard case .message(1, _) = try receive(server, &buffer) else {
            Issue.record("no message")
            return
        }
    }

    @Test func memoryWithoutSealsIsNotTaken() throws {
        let file = open("/tmp", O_TMPFILE_FLAGS, 0o600)
        #expect(file >= 0)
        let descriptor = FileDescriptor(owning: file)
        do {
            _ = try SealedMemory(descriptor.duplicate())
            Issue.record("taken")
        } catch { #expect(error.call == "fcntl" || error.call == "seals") }
    }

    private var O_TMPFILE_FLAGS: Int32 { 0o20200000 | O_RDWR }

    private func receive(
        _ socket: borrowing SeqpacketSocket, _ buffer: inout [UInt8]
    ) throws(IOError) -> SeqpacketSocket.Reception {
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: buffer.count, alignment: 8)
        defer { bytes.deallocate() }
        return try socket.receive(into: bytes)
    }
}
