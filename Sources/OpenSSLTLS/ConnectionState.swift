import COpenSSL
import Glibc

/// What a connection's callbacks need, at an address that stays.
struct ConnectionState: ~Copyable {
    enum Role: UInt8 { case client, server }

    /// How the socket ended.
    enum Transport: Equatable {
        case open
        case endOfFile
        case failed(errno: Int32)
    }

    let role: Role
    /// The owner's, who closes it after the connection.
    let descriptor: Int32
    /// The thread's, or this connection's own.
    let buffers: TLSBuffersPointer
    let ownsBuffers: Bool
    var input = ReceivedBytes()
    var output: CiphertextQueue
    /// The last read from the socket took all that there was: the next one would find nothing.
    var isDrained = false
    /// Of the record that is being handed on: bytes of its header that were, and of its body that were not.
    private var headerBytesTaken = 0
    private var bodyBytesLeft = 0
    /// The owner tells of every change of the socket; once there is an end or an error to read, no further one comes.
    var isTold = false
    var isEndNear = false
    var transport = Transport.open
    /// Bytes seen of the first record's content type and version.
    var headerBytesSeen = 0
    var isPlaintext = false
    /// What a callback found against the peer.
    var verdict: TLSFailure?
    var isDone = false
    /// KeyUpdate and session tickets after the handshake, and reads that brought data.
    var messages = 0
    var reads = 0
    /// Written with the current key.
    var records = 0

    /// Client: who we are. Server: who was asked for, once that is known.
    var identity: TLSIdentity?
    /// Server: who can be asked for, and who answers a client that sends no name.
    let server: TLSServerContext?
    let unnamedIdentity: TLSIdentity?
    /// Client: who the server must be.
    let expectedPrincipal: String?
    var serverName = ""
    var peerPrincipal: String?
    var peerNotAfter: Int64 = 0

    /// A peer rekeys once in millions of records, and a server sends a few tickets at the beginning; each message
    /// costs us more than it costs the peer.
    var isFlooded: Bool { messages > 64 + reads >> 10 }

    /// AES-GCM keys are good for 2^24.5 full records (RFC 8446 section 5.5).
    static let recordsPerKeyMax = 1 << 24
    private static let recordHeaderSize = 5
    /// Of one read from the socket, however little room the reader has.
    static let receiveMin = 16_384

    init(
        role: Role, descriptor: Int32, buffers: TLSBuffersPointer?, identity: TLSIdentity?, server: TLSServerContext?,
        unnamedIdentity: TLSIdentity?, expectedPrincipal: String?
    ) {
        self.role = role
        self.descriptor = descriptor
        ownsBuffers = buffers == nil
        if let buffers {
            self.buffers = buffers
        } else {
            self.buffers = .allocate(capacity: 1)
            self.buffers.initialize(to: TLSBuffers())
        }
        output = CiphertextQueue(self.buffers)
        self.identity = identity
        self.server = server
        self.unnamedIdentity = unnamedIdentity
        self.expectedPrincipal = expectedPrincipal
    }

    /// What a look at the socket brought.
    enum Reception {
        case bytes
        case nothing
        /// `transport` says how.
        case end
    }

    /// Nothing of a record was handed on whose rest is missing.
    var isBetweenRecords: Bool { headerBytesTaken == 0 && bodyBytesLeft == 0 }

    /// The library asks for a record's header, then for its body, and for what is missing of either.
    mutating func noteTaken(_ taken: Int, of wanted: Int) {
        guard headerBytesTaken == Self.recordHeaderSize else {
            headerBytesTaken += taken
            return
        }
        if bodyBytesLeft == 0 { bodyBytesLeft = wanted }
        bodyBytesLeft -= taken
        if bodyBytesLeft == 0 { headerBytesTaken = 0 }
    }

    /// A record begins with its content type, 20 to 24, and 3 (RFC 8446 section 5.1); the first one may be an alert.
    mutating func inspect(_ bytes: UnsafeRawBufferPointer) {
        for byte in bytes.prefix(2 - headerBytesSeen) {
            if !(headerBytesSeen == 0 ? (20...24).contains(byte) : byte == 3) { isPlaintext = true }
            headerBytesSeen += 1
        }
    }
}

typealias ConnectionStatePointer = UnsafeMutablePointer<ConnectionState>

extension UnsafeMutablePointer<ConnectionState> {
    /// Reads from the socket once, at most `limit` bytes. Everything that came before has been used up.
    func receive(limit: Int) -> ConnectionState.Reception {
        if pointee.isDrained {
            pointee.isDrained = false
            return .nothing
        }
        let wanted = Swift.min(Swift.max(limit, ConnectionState.receiveMin), TLSBuffers.receiveSize)
        guard let memory = pointee.buffers.pointee.takeReceived(for: self) else {
            pointee.transport = .failed(errno: ENOMEM)
            return .end
        }
        while true {
            let received = recv(pointee.descriptor, memory, wanted, 0)
            if received > 0 {
                pointee.input.set(memory, count: received)
                pointee.isDrained = received < wanted && pointee.isTold && !pointee.isEndNear
                if pointee.headerBytesSeen < 2 {
                    pointee.inspect(UnsafeRawBufferPointer(start: memory, count: received))
                }
                return .bytes
            }
            pointee.buffers.pointee.doneReceiving(self)
            if received == 0 {
                pointee.transport = .endOfFile
                return .end
            }
            switch errno {
            case EINTR: continue
            case EAGAIN: return .nothing
            default:
                pointee.transport = .failed(errno: errno)
                return .end
            }
        }
    }

    /// Ends it, with the buffers if they are its own.
    func free() {
        let (buffers, ownsBuffers) = (pointee.buffers, pointee.ownsBuffers)
        buffers.pointee.doneReceiving(self)
        deinitialize(count: 1)
        deallocate()
        guard ownsBuffers else { return }
        buffers.deinitialize(count: 1)
        buffers.deallocate()
    }
}

/// The state of the connection that a callback is about.
func connectionState(of ssl: OpaquePointer?) -> ConnectionStatePointer? {
    SSL_get_ex_data(ssl, 0)?.assumingMemoryBound(to: ConnectionState.self)
}

// MARK: the BIO: reads take what was received, writes go to the queue that the owner flushes

/// Immutable once made.
struct ConnectionBIO: @unchecked Sendable {
    /// Nil only for lack of memory.
    let method: OpaquePointer?

    static let shared = ConnectionBIO()

    private init() {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "culvert connection")
        BIO_meth_set_read_ex(method, connectionBIORead)
        BIO_meth_set_write_ex(method, connectionBIOWrite)
        BIO_meth_set_ctrl(method, connectionBIOControl)
    }
}

private func connectionBIORead(
    _ bio: OpaquePointer?, _ buffer: UnsafeMutablePointer<CChar>?, _ count: Int, _ read: UnsafeMutablePointer<Int>?
) -> Int32 {
    copenssl_bio_no_retry(bio)
    guard let buffer, let state = BIO_get_data(bio)?.assumingMemoryBound(to: ConnectionState.self) else { return 0 }
    if state.pointee.isFlooded || state.pointee.isPlaintext { return 0 }
    let taken = state.pointee.input.read(into: buffer, count)
    if state.pointee.input.count == 0 { state.pointee.buffers.pointee.doneReceiving(state) }
    state.pointee.noteTaken(taken, of: count)
    guard taken > 0 else {
        // At the end of the socket it is an error, else more is to be received.
        if state.pointee.transport == .open { copenssl_bio_retry_read(bio) }
        return 0
    }
    read?.pointee = taken
    return 1
}

private func connectionBIOWrite(
    _ bio: OpaquePointer?, _ bytes: UnsafePointer<CChar>?, _ count: Int, _ written: UnsafeMutablePointer<Int>?
) -> Int32 {
    copenssl_bio_no_retry(bio)
    guard let bytes, let state = BIO_get_data(bio)?.assumingMemoryBound(to: ConnectionState.self),
        state.pointee.output.append(bytes, count: count)
    else { return 0 }
    written?.pointee = count
    return 1
}

private func connectionBIOControl(
    _ bio: OpaquePointer?, _ command: Int32, _ number: Int, _ argument: UnsafeMutableRawPointer?
) -> Int {
    command == BIO_CTRL_FLUSH ? 1 : 0
}
