package import LinuxIO

/// A small HTTP/1.1 server on meshd's control thread: one bounded GET for each connection, then it closes. A client
/// that is slow to ask or to take its answer is cut off.
package final class HTTPServer {
    package static let connectionsMax = 64
    package static let timeoutMilliseconds: UInt64 = 5_000

    package typealias Handler = (HTTPRequest) -> HTTPResponse

    private let reactor: Reactor
    private let listener: FileDescriptor
    private let handler: Handler
    private let methods: Set<String>
    private var watch: Reactor.WatchID?
    private var connections: [ObjectIdentifier: Connection] = [:]
    private var resume: Reactor.TimerID?

    /// Serves `listener` from now on until the value ends. `handler` runs on the reactor's thread.
    package init(
        reactor: Reactor, listener: consuming FileDescriptor, methods: Set<String> = ["GET"],
        handler: @escaping Handler
    ) throws(IOError) {
        self.reactor = reactor
        self.methods = methods
        self.listener = listener
        self.handler = handler
        watch = try reactor.watch(self.listener) { [weak self] _ in self?.accept() }
    }

    deinit {
        if let watch { reactor.remove(watch) }
        if let resume { reactor.cancel(resume) }
        for connection in connections.values { connection.stop() }
    }

    package var connectionCount: Int { connections.count }

    // MARK: private

    private func accept() {
        while connections.count < Self.connectionsMax {
            do throws(IOError) {
                guard let descriptor = try ListeningSocket.accept(listener) else { return }
                open(descriptor)
            } catch {
                // Out of descriptors: the queue stays as it is; a level-triggered watch would spin on it.
                return pause(milliseconds: 100)
            }
        }
        pause(milliseconds: nil)
    }

    private func open(_ descriptor: consuming FileDescriptor) {
        let connection = Connection(
            reactor: reactor, descriptor: descriptor, methods: methods, handler: handler)
        let id = ObjectIdentifier(connection)
        connections[id] = connection
        connection.start { [weak self] in
            guard let self else { return }
            self.connections[id] = nil
            self.continueAccepting()
        }
    }

    /// Stops looking at the listener, for a time or until a connection ends.
    private func pause(milliseconds: UInt64?) {
        guard let watch else { return }
        try? reactor.change(watch, to: [])
        guard let milliseconds, resume == nil else { return }
        resume = reactor.schedule(afterMilliseconds: milliseconds) { [weak self] in
            self?.resume = nil
            self?.continueAccepting()
        }
    }

    private func continueAccepting() {
        guard let watch, resume == nil else { return }
        try? reactor.change(watch, to: .read)
    }
}

/// One client of an `HTTPServer`.
private final class Connection {
    private enum State {
        case reading([UInt8])
        case writing([UInt8], from: Int)
        /// Everything is written and our side is shut: waits for the client's end, so that no reset eats the answer.
        case closing
        case closed
    }

    private let reactor: Reactor
    private let descriptor: FileDescriptor
    private let handler: HTTPServer.Handler
    private let methods: Set<String>
    private var state = State.reading([])
    private var watch: Reactor.WatchID?
    private var timer: Reactor.TimerID?
    private var onEnd: (() -> Void)?

    init(
        reactor: Reactor, descriptor: consuming FileDescriptor, methods: Set<String>,
        handler: @escaping HTTPServer.Handler
    ) {
        self.methods = methods
        self.reactor = reactor
        self.descriptor = descriptor
        self.handler = handler
    }

    func start(onEnd: @escaping () -> Void) {
        self.onEnd = onEnd
        do throws(IOError) {
            watch = try reactor.watch(descriptor) { [weak self] _ in self?.isReady() }
            schedule()
        } catch {
            stop()
        }
    }

    func stop() {
        if let watch { reactor.remove(watch) }
        if let timer { reactor.cancel(timer) }
        (watch, timer, state) = (nil, nil, .closed)
        let end = onEnd
        onEnd = nil
        end?()
    }

    // MARK: private

    private func schedule() {
        if let timer { reactor.cancel(timer) }
        timer = reactor.schedule(afterMilliseconds: HTTPServer.timeoutMilliseconds) { [weak self] in self?.stop() }
    }

    private func isReady() {
        do throws(IOError) {
            switch state {
            case .reading(let bytes): try read(after: bytes)
            case .writing(let bytes, let from): try write(bytes, from: from)
            case .closing: try discard()
            case .closed: break
            }
        } catch {
            stop()
        }
    }

    private func read(after earlier: [UInt8]) throws(IOError) {
        var bytes = earlier
        guard let chunk = try receive(limit: HTTPRequest.bytesMax - earlier.count) else { return }
        guard !chunk.isEmpty else { return stop() }
        bytes += chunk
        switch HTTPRequest.parse(bytes[...]) {
        case .incomplete: state = .reading(bytes)
        case .malformed: try answer(.text("malformed request\n", status: 400))
        case .request(let request) where !methods.contains(request.method):
            try answer(.text("\(request.method) is not served\n", status: 405))
        case .request(var request):
            request.peerUID = (try? UnixPeer(of: descriptor))?.uid
            try answer(handler(request))
        }
    }

    private func answer(_ response: HTTPResponse) throws(IOError) {
        let bytes = response.bytes
        state = .writing(bytes, from: 0)
        if let watch { try reactor.change(watch, to: .write) }
        try write(bytes, from: 0)
    }

    private func write(_ bytes: [UInt8], from start: Int) throws(IOError) {
        var written = start
        while written < bytes.count {
            guard let count = try SocketStream.send(descriptor, bytes[written...]) else {
                if written > start { schedule() }
                state = .writing(bytes, from: written)
                return
            }
            written += count
        }
        SocketStream.shutDown(descriptor)
        state = .closing
        if let watch { try reactor.change(watch, to: .read) }
    }

    private func discard() throws(IOError) {
        if let chunk = try receive(limit: HTTPRequest.bytesMax), chunk.isEmpty { stop() }
    }

    private func receive(limit: Int) throws(IOError) -> [UInt8]? {
        var failure: IOError?
        var isBlocked = false
        let bytes = [UInt8](unsafeUninitializedCapacity: max(limit, 1)) { buffer, count in
            do throws(IOError) {
                if let received = try descriptor.read(into: UnsafeMutableRawBufferPointer(buffer)) {
                    count = received
                } else {
                    isBlocked = true
                }
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return isBlocked ? nil : bytes
    }
}
