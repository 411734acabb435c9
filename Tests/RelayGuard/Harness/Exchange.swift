import Glibc
import MeshModel

/// What applications do while the guards count: as few instructions and system calls of their own as can be.
struct Exchange {
    static let requestBytes = 100
    static let answerBytes = 1_024 + 200
    /// Of bulk, under way at any time.
    static let bulkBytesUnderWay = 1 << 20

    private let capture: SocketAddress
    private let listener: Int32
    private let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4_096)

    struct Pair {
        let client: Int32
        let server: Int32
    }

    init(capture: SocketAddress, listener: Int32) {
        self.capture = capture
        self.listener = listener
        memory.initializeMemory(as: UInt8.self, repeating: 0x5a)
    }

    /// A connection that has carried a byte each way.
    func open() throws -> Pair {
        let client = try GuardSocket.connect(capture)
        try send(client, 1)
        let server = try GuardSocket.accept(listener)
        try receive(server, 1)
        try send(server, 1)
        try receive(client, 1)
        return Pair(client: client, server: server)
    }

    func close(_ pair: Pair) throws {
        _ = Glibc.close(pair.client)
        guard recv(pair.server, memory.baseAddress, 1, 0) == 0 else { throw GuardFailure("no end came") }
        _ = Glibc.close(pair.server)
    }

    /// One request on each of `pairs`, all of them under way at a time.
    func request(_ pairs: [Pair]) throws {
        for pair in pairs { try send(pair.client, Self.requestBytes) }
        for pair in pairs {
            try receive(pair.server, Self.requestBytes)
            try send(pair.server, Self.answerBytes)
        }
        for pair in pairs { try receive(pair.client, Self.answerBytes) }
    }

    /// Moves `count` bytes from one socket to the other end's.
    func move(_ count: Int, from source: Int32, to target: Int32) throws {
        var sent = 0
        var received = 0
        while received < count {
            let room = min(count - sent, received + Self.bulkBytesUnderWay - sent)
            var polls = [
                pollfd(fd: target, events: Int16(POLLIN), revents: 0),
                pollfd(fd: room > 0 ? source : -1, events: Int16(POLLOUT), revents: 0),
            ]
            guard poll(&polls, 2, 30_000) > 0 else { throw GuardFailure("bulk stands still") }
            if polls[1].revents != 0 {
                let step = Glibc.send(source, memory.baseAddress, room, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
                if step > 0 { sent += step }
            }
            if polls[0].revents != 0 {
                let step = recv(target, memory.baseAddress, memory.count, Int32(MSG_DONTWAIT))
                guard step > 0 else { throw GuardFailure("bulk broke off: error \(errno)") }
                received += step
            }
        }
    }

    // MARK: private

    private func send(_ socket: Int32, _ count: Int) throws {
        guard Glibc.send(socket, memory.baseAddress, count, Int32(MSG_NOSIGNAL)) == count else {
            throw GuardFailure("send: error \(errno)")
        }
    }

    private func receive(_ socket: Int32, _ count: Int) throws {
        guard recv(socket, memory.baseAddress, count, Int32(MSG_WAITALL)) == count else {
            throw GuardFailure("receive: error \(errno)")
        }
    }
}
