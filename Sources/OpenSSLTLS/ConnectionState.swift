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
    var output = CiphertextQueue()
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

    init(
        role: Role, descriptor: Int32, identity: TLSIdentity?, server: TLSServerContext?,
        unnamedIdentity: TLSIdentity?, expectedPrincipal: String?
    ) {
        self.role = role
        self.descriptor = descriptor
        self.identity = identity
        self.server = server
        self.unnamedIdentity = unnamedIdentity
        self.expectedPrincipal = expectedPrincipal
    }

    /// Reads from the socket. Returns the count, 0 at the end, -1 for an error, nil when it would block.
    mutating func receive(into buffer: UnsafeMutablePointer<CChar>, count: Int) -> Int? {
        if isFlooded { return -1 }
        while true {
            let received = recv(descriptor, buffer, count, 0)
            if received > 0 {
                if headerBytesSeen < 2 { inspect(UnsafeRawBufferPointer(start: buffer, count: received)) }
                return isPlaintext ? -1 : received
            }
            if received == 0 {
                transport = .endOfFile
                return 0
            }
            switch errno {
            case EINTR: continue
            case EAGAIN: return nil
            default:
                transport = .failed(errno: errno)
                return -1
            }
        }
    }

    /// A record begins with its content type, 20 to 24, and 3 (RFC 8446 section 5.1); the first one may be an alert.
    private mutating func inspect(_ bytes: UnsafeRawBufferPointer) {
        for byte in bytes.prefix(2 - headerBytesSeen) {
            if !(headerBytesSeen == 0 ? (20...24).contains(byte) : byte == 3) { isPlaintext = true }
            headerBytesSeen += 1
        }
    }
}

typealias ConnectionStatePointer = UnsafeMutablePointer<ConnectionState>

/// The state of the connection that a callback is about.
func connectionState(of ssl: OpaquePointer?) -> ConnectionStatePointer? {
    SSL_get_ex_data(ssl, 0)?.assumingMemoryBound(to: ConnectionState.self)
}

// MARK: the BIO: reads come straight from the socket, writes go to the queue that the owner flushes

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
    guard let received = state.pointee.receive(into: buffer, count: count) else {
        copenssl_bio_retry_read(bio)
        return 0
    }
    guard received > 0 else { return 0 }
    read?.pointee = received
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
