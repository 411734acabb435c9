import CLinux
import Glibc
import MeshModel

@testable import DataPlane

/// A blocking TCP socket of a test, with timeouts so that a fault fails the test instead of stopping it.
final class TestSocket: @unchecked Sendable {
    private(set) var descriptor: Int32

    struct Failure: Error { var call: String, code: Int32 }

    init(owning descriptor: Int32, timeoutSeconds: Int = 10) {
        self.descriptor = descriptor
        setTimeout(timeoutSeconds)
    }

    func setTimeout(_ seconds: Int) {
        var time = timeval(tv_sec: seconds, tv_usec: 0)
        let size = socklen_t(MemoryLayout<timeval>.size)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &time, size)
        setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &time, size)
    }

    convenience init(timeoutSeconds: Int = 10, isIPv6: Bool = false) {
        let family = isIPv6 ? AF_INET6 : AF_INET
        self.init(owning: socket(family, Int32(SOCK_STREAM.rawValue), 0), timeoutSeconds: timeoutSeconds)
    }

    static func datagram(timeoutSeconds: Int = 10) -> TestSocket {
        TestSocket(owning: socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0), timeoutSeconds: timeoutSeconds)
    }

    deinit { close() }

    func close() {
        if descriptor >= 0 { _ = Glibc.close(descriptor) }
        descriptor = -1
    }

    func reset() {
        clinux_close_with_reset(descriptor)
        descriptor = -1
    }

    var local: SocketAddress { Socket.local(of: descriptor) ?? SocketAddress(.unspecified, 0) }
    var peer: SocketAddress { Socket.peer(of: descriptor) ?? SocketAddress(.unspecified, 0) }

    func bind(_ address: SocketAddress) throws {
        _ = clinux_tcp_set_option(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
        var endpoint = address.endpoint
        let code = clinux_bind_endpoint(descriptor, &endpoint, address.address.isIPv4 ? 0 : 1)
        guard code == 0 else { throw Failure(call: "bind", code: code) }
    }

    func listen(_ address: SocketAddress, backlog: Int32 = 1_024) throws {
        try bind(address)
        guard Glibc.listen(descriptor, backlog) == 0 else { throw Failure(call: "listen", code: errno) }
    }

    func connect(_ address: SocketAddress) throws {
        let code = Socket.connect(descriptor, to: address, isIPv6: false)
        guard code == 0 else { throw Failure(call: "connect", code: code) }
    }

    func accept() throws -> TestSocket {
        let accepted = Glibc.accept(descriptor, nil, nil)
        guard accepted >= 0 else { throw Failure(call: "accept", code: errno) }
        return TestSocket(owning: accepted)
    }

    func send(_ text: String) throws { try send(Array(text.utf8)) }

    func send(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress! + sent, bytes.count - sent, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { throw Failure(call: "send", code: errno) }
            sent += count
        }
    }

    /// What the kernel takes now.
    func trySend(_ bytes: [UInt8]) -> Int {
        bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT)) }
    }

    /// At most `max` bytes; empty at the end. Throws on a reset and on a timeout.
    func receive(_ max: Int = 65_536) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: max)
        let count = recv(descriptor, &bytes, max, 0)
        guard count >= 0 else { throw Failure(call: "recv", code: errno) }
        return Array(bytes[..<count])
    }

    func receive(exactly count: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let more = try receive(count - bytes.count)
            guard !more.isEmpty else { throw Failure(call: "recv: end", code: 0) }
            bytes += more
        }
        return bytes
    }

    func receiveText(_ count: Int) throws -> String { String(decoding: try receive(exactly: count), as: UTF8.self) }

    func receiveToEnd() throws -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            let more = try receive(262_144)
            if more.isEmpty { return bytes }
            bytes += more
        }
    }

    func finish() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// The errno that reading ends with; 0 for an orderly end.
    func errorAtEnd() -> Int32 {
        do {
            _ = try receiveToEnd()
            return 0
        } catch let failure as Failure {
            return failure.code
        } catch {
            return -1
        }
    }
}

/// A thread of a test; `join` waits for it.
final class TestThread: @unchecked Sendable {
    private final class Box {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }

    private var thread = pthread_t()

    init(_ body: @escaping @Sendable () -> Void) {
        let box = Unmanaged.passRetained(Box(body)).toOpaque()
        pthread_create(&thread, nil, testThreadMain, box)
    }

    func join() { pthread_join(thread, nil) }

    fileprivate static func run(_ pointer: UnsafeMutableRawPointer) {
        Unmanaged<Box>.fromOpaque(pointer).takeRetainedValue().body()
    }
}

private func testThreadMain(_ box: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    if let box { TestThread.run(box) }
    return nil
}

/// Options that every application's connection must have.
struct ApplicationOptions: Equatable {
    var isNoDelay = true
    var isKeptAlive = true
    var idleSeconds: Int32 = 180

    init() {}

    init(of descriptor: Int32) {
        isNoDelay = Self.value(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY) != 0
        isKeptAlive = Self.value(descriptor, SOL_SOCKET, SO_KEEPALIVE) != 0
        idleSeconds = Self.value(descriptor, Int32(IPPROTO_TCP), TCP_KEEPIDLE)
    }

    private static func value(_ descriptor: Int32, _ level: Int32, _ name: Int32) -> Int32 {
        var value: Int32 = -1
        var length = socklen_t(MemoryLayout<Int32>.size)
        return getsockopt(descriptor, level, name, &value, &length) == 0 ? value : -1
    }
}
