// TEMPORARY: plain text in the shape of OpenSSLTLS's TLSConnection until that has landed.
// Only debug builds use it: a release build refuses every tunnel (no_certificate) as long as this file is here.
import CMeshABI
import Glibc
import MeshModel

enum TLSFailure { case closed, other; var reason: Reason { .MESH_REASON_TLS_FAILED }; var isConnectionLoss: Bool { self == .closed } }
enum TLSHandshake { case done, wantRead, wantWrite, failed(TLSFailure) }
enum TLSRead { case bytes(Int), wouldBlock, closed, failed(TLSFailure) }

struct TLSConnection: ~Copyable {
    var out: [UInt8] = []
    let fd: Int32
    let isClient: Bool
    var line: [UInt8] = []
    var peerPrincipal = ""
    var localPrincipal = ""
    var serverName: String { "" }
    var isDone = false
    init(client: String, server: String, fd: Int32) { self.fd = fd; isClient = true; out = Array("\(client) \(server)\n".utf8); peerPrincipal = server; localPrincipal = client }
    init(fd: Int32) { self.fd = fd; isClient = false }
    mutating func handshake() -> TLSHandshake {
        if isClient { return .done }
        while true {
            var byte: UInt8 = 0
            let n = Glibc.read(fd, &byte, 1)
            if n == 0 { return .failed(.closed) }
            if n < 0 { return errno == EAGAIN ? .wantRead : .failed(.closed) }
            if byte == 10 { break }
            line.append(byte)
        }
        let parts = String(decoding: line, as: UTF8.self).split(separator: " ")
        guard parts.count == 2 else { return .failed(.other) }
        peerPrincipal = String(parts[0]); localPrincipal = String(parts[1])
        return .done
    }
    mutating func read(into b: UnsafeMutableRawBufferPointer) -> TLSRead {
        let n = Glibc.read(fd, b.baseAddress, b.count)
        if n > 0 { return .bytes(n) }
        if n == 0 { return .closed }
        return errno == EAGAIN ? .wouldBlock : .failed(.closed)
    }
    mutating func write(_ b: UnsafeRawBufferPointer) -> TLSFailure? { out.append(contentsOf: b); return nil }
    var pendingCount: Int { out.count }
    var pending: UnsafeRawBufferPointer { out.withUnsafeBytes { UnsafeRawBufferPointer(start: $0.baseAddress, count: $0.count) } }
    mutating func consume(_ n: Int) { out.removeFirst(n) }
    mutating func close() {}
}
