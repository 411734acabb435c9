import CMeshABI
import COpenSSL
import Glibc

/// One TLS connection over a non-blocking socket. It reads from the socket itself; what is to be sent is collected in
/// `pending`, which the owner writes to the socket, once per turn of its loop, and consumes. Belongs to one thread.
/// Nothing that the peer sends traps.
package struct TLSConnection: ~Copyable {
    package enum Progress: Equatable, Sendable {
        case done
        /// Flush `pending`, and come again when the socket is readable.
        case wantRead
        /// Not returned while writes are queued without bound; owners treat it as `wantRead`.
        case wantWrite
        /// Flush `pending`: it may hold the alert that tells the peer why.
        case failed(TLSFailure)
    }

    package enum ReadResult: Equatable, Sendable {
        case bytes(Int)
        case wouldBlock
        /// The peer has said that nothing more comes (close_notify).
        case closed
        case failed(TLSFailure)
    }

    private let ssl: OpaquePointer
    private let state: ConnectionStatePointer

    /// Accepts on a connection to the tunnel port. `unnamedIdentity` answers clients that send no server name: the
    /// workload of the dialled address, nil if that is nobody's. `clock`: seconds since 1970 that certificates are
    /// judged by, nil for the time of day. `descriptor` stays the owner's and must outlive the connection, as do
    /// `buffers`; without them it has its own.
    package init(
        server: TLSServerContext, unnamedIdentity: TLSIdentity? = nil, descriptor: Int32,
        buffers: TLSBuffersPointer? = nil, clock: Int64? = nil
    ) throws(TLSSetupError) {
        state = .allocate(capacity: 1)
        state.initialize(
            to: ConnectionState(
                role: .server, descriptor: descriptor, buffers: buffers, identity: nil, server: server,
                unnamedIdentity: unnamedIdentity, expectedPrincipal: nil))
        ssl = try Self.makeSSL(state, context: server.context, clock: clock)
        SSL_set_accept_state(ssl)
    }

    /// Speaks as `identity` to the workload `principal` (URI), and to nobody else.
    package init(
        client identity: TLSIdentity, expecting principal: String, descriptor: Int32,
        buffers: TLSBuffersPointer? = nil, clock: Int64? = nil
    ) throws(TLSSetupError) {
        state = .allocate(capacity: 1)
        state.initialize(
            to: ConnectionState(
                role: .client, descriptor: descriptor, buffers: buffers, identity: identity, server: nil,
                unnamedIdentity: nil, expectedPrincipal: principal))
        state.pointee.serverName = TLSLibrary.serverName(forPrincipal: principal)
        ssl = try Self.makeSSL(state, context: identity.context, clock: clock)
        SSL_set_connect_state(ssl)
    }

    /// Frees `state` if it fails.
    private static func makeSSL(
        _ state: ConnectionStatePointer, context: OpaquePointer, clock: Int64?
    ) throws(TLSSetupError) -> OpaquePointer {
        ERR_clear_error()
        let ssl = SSL_new(context)
        guard let ssl, let method = ConnectionBIO.shared.method, let bio = BIO_new(method) else {
            SSL_free(ssl)
            state.free()
            throw .last("cannot make a TLS connection")
        }
        BIO_set_data(bio, state)
        BIO_set_init(bio, 1)
        SSL_set_bio(ssl, bio, bio)
        SSL_set_info_callback(ssl, countMessages)
        if let clock { X509_VERIFY_PARAM_set_time(SSL_get0_param(ssl), time_t(clock)) }
        let name = state.pointee.role == .client ? state.pointee.serverName : ""
        guard SSL_set_ex_data(ssl, 0, state) == 1, name.isEmpty || copenssl_set_server_name(ssl, name) == 1 else {
            SSL_free(ssl)
            state.free()
            throw .last("cannot make a TLS connection")
        }
        return ssl
    }

    deinit {
        SSL_free(ssl)
        state.free()
    }

    // MARK: who is who

    /// The peer's SPIFFE ID, once its certificate was found good.
    package var peerPrincipal: String? { state.pointee.isDone ? state.pointee.peerPrincipal : nil }
    /// Seconds since 1970; 0 before the handshake is done.
    package var peerNotAfter: Int64 { state.pointee.isDone ? state.pointee.peerNotAfter : 0 }
    /// Ours; on the server once the client has said whom it wants.
    package var localPrincipal: String? { state.pointee.identity?.principal }
    /// The server name that was asked for; empty if none was, or is known yet.
    package var serverName: String { state.pointee.serverName }

    // MARK: ciphertext for the socket

    package var pending: UnsafeRawBufferPointer { state.pointee.output.bytes }
    package var pendingCount: Int { state.pointee.output.count }

    /// `count` bytes of `pending` were written.
    package mutating func consume(_ count: Int) { state.pointee.output.removeFirst(count) }

    // MARK: plain text

    package mutating func handshake() -> Progress {
        if state.pointee.isDone { return .done }
        while true {
            TLSLibrary.forgetErrors()
            let result = SSL_do_handshake(ssl)
            if result == 1 { return finishHandshake() }
            switch SSL_get_error(ssl, result) {
            case SSL_ERROR_WANT_READ:
                if case .nothing = state.receive(limit: ConnectionState.receiveMin) { return .wantRead }
            case SSL_ERROR_WANT_WRITE: return .wantWrite
            default: return .failed(failure())
            }
        }
    }

    /// At most one record's content (16 KiB) a call. After `.bytes` there may be more; `.wouldBlock` means that the
    /// socket is empty. It receives no more at a time than `buffer` has room for, but for a record that has begun.
    package mutating func read(into buffer: UnsafeMutableRawBufferPointer) -> ReadResult {
        guard !buffer.isEmpty else { return .bytes(0) }
        TLSLibrary.forgetErrors()
        while true {
            var count = 0
            let result = SSL_read_ex(ssl, buffer.baseAddress, buffer.count, &count)
            if state.pointee.isFlooded { return .failed(.flooded) }
            if result == 1 {
                state.pointee.reads &+= 1
                return .bytes(count)
            }
            switch SSL_get_error(ssl, result) {
            case SSL_ERROR_WANT_READ, SSL_ERROR_WANT_WRITE:
                if case .nothing = state.receive(limit: buffer.count - Self.recordSizeMax) { return .wouldBlock }
            case SSL_ERROR_ZERO_RETURN: return .closed
            default: return .failed(failure())
            }
        }
    }

    /// Ciphertext was received that no read has taken yet.
    package var hasReceived: Bool { state.pointee.input.count > 0 }

    /// The kernel has told, as it does once, that there is something new to read; `isEnd`: an end or an error. For an owner
    /// that says so each time, a read that brought less than it could is the last one until then.
    package mutating func noteReadable(isEnd: Bool) {
        state.pointee.isTold = true
        state.pointee.isDrained = false
        if isEnd { state.pointee.isEndNear = true }
    }

    /// Gives back the library's own buffers, some 32 KiB, which it takes again when there is something to move. False while
    /// a record is half there: before 3.0.14 the library would free what it goes on to read (CVE-2024-4741).
    package mutating func releaseBuffers() -> Bool {
        state.pointee.isDone && state.pointee.isBetweenRecords && SSL_free_buffers(ssl) == 1
    }

    /// Encrypts all of `bytes` into `pending`; the owner bounds how much that becomes. Nil if that worked.
    package mutating func write(_ bytes: UnsafeRawBufferPointer) -> TLSFailure? {
        guard !bytes.isEmpty else { return nil }
        let records = bytes.count / 16_384 + 1
        guard state.pointee.output.reserve(bytes.count + records * Self.recordOverhead) else { return .noMemory }
        TLSLibrary.forgetErrors()
        state.pointee.records += records
        if state.pointee.records >= ConnectionState.recordsPerKeyMax { rekey() }
        var count = 0
        guard SSL_write_ex(ssl, bytes.baseAddress, bytes.count, &count) == 1, count == bytes.count else {
            return failure()
        }
        return nil
    }

    /// Says goodbye (close_notify) and sends what the socket takes without waiting. The owner closes the socket.
    package mutating func close() {
        ERR_clear_error()
        if state.pointee.isDone { _ = SSL_shutdown(ssl) }
        ERR_clear_error()
        let pending = pending
        guard !pending.isEmpty else { return }
        _ = send(
            state.pointee.descriptor, pending.baseAddress, pending.count,
            Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
        state.pointee.output.removeAll()
    }

    // MARK: private

    /// Header, content type and tag (RFC 8446 section 5.2).
    private static let recordOverhead = 22
    private static let recordSizeMax = 16_384

    /// The next write begins with a KeyUpdate; the peer keeps its own key.
    mutating func rekey() {
        guard SSL_key_update(ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1 else { return ERR_clear_error() }
        state.pointee.records = 0
    }

    private mutating func finishHandshake() -> Progress {
        var name: UnsafePointer<UInt8>?
        var count: UInt32 = 0
        SSL_get0_alpn_selected(ssl, &name, &count)
        // A server may answer without ALPN: the client finds out here.
        guard count == 2 else { return .failed(noApplicationProtocol) }
        guard state.pointee.peerPrincipal != nil else {
            return .failed(TLSFailure(.MESH_REASON_CERTIFICATE_INVALID, .local, "the peer was not verified"))
        }
        state.pointee.isDone = true
        return .done
    }

    private mutating func failure() -> TLSFailure {
        defer { ERR_clear_error() }
        if state.pointee.isPlaintext {
            return state.pointee.role == .server
                ? .plaintext : TLSFailure(.MESH_REASON_TLS_FAILED, .local, "the peer does not speak TLS")
        }
        if let verdict = state.pointee.verdict { return verdict }
        switch state.pointee.transport {
        case .endOfFile: return .transport(errno: 0)
        case .failed(let code): return .transport(errno: code)
        case .open: break
        }
        return .fromLibrary(
            isServer: state.pointee.role == .server,
            isFirstRecord: !state.pointee.isDone && SSL_get_state(ssl) == TLS_ST_BEFORE)
    }
}
