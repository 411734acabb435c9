import Glibc
import LinuxIO

/// Why a question to meshd got no answer, with what to do about it.
package enum AdminClientError: Error, Equatable, CustomStringConvertible {
    case noDaemon(socket: String, cause: String)
    case notPermitted(socket: String)
    case interrupted(socket: String, cause: String)
    case refused(status: Int, text: String)
    case notUnderstood(path: String, cause: String)

    package var description: String {
        switch self {
        case .noDaemon(let socket, let cause):
            "meshd does not answer on \(socket) (\(cause)): start it (systemctl start meshd), or name its socket "
                + "with --socket"
        case .notPermitted(let socket):
            "\(socket) is not for this user: join the group that owns it (admin.group in meshd.yaml), or use sudo"
        case .interrupted(let socket, let cause): "the answer from \(socket) broke off: \(cause)"
        case .refused(let status, let text): "meshd answered \(status): \(text)"
        case .notUnderstood(let path, let cause):
            "the answer to \(path) is not understood (\(cause)): meshctl and meshd may be of different versions"
        }
    }
}

/// Asks meshd over its admin socket, one question for each connection; it blocks for at most some seconds.
package struct AdminClient: Sendable {
    package static let defaultSocket = "/run/culvert/admin.sock"
    private static let timeoutSeconds = 10
    private static let answerBytesMax = 256 << 20

    package var socket: String

    package init(socket: String) { self.socket = socket }

    /// The body of the answer to `GET path`.
    package func get(_ path: String) throws(AdminClientError) -> [UInt8] { try ask("GET", path) }

    /// Asks meshd to go on as the installed binary; what it says when it begins.
    package func upgrade() throws(AdminClientError) -> [UInt8] { try ask("POST", "/v1/upgrade") }

    private func ask(_ method: String, _ path: String) throws(AdminClientError) -> [UInt8] {
        let descriptor = try connected()
        let request = Array("\(method) \(path) HTTP/1.1\r\nHost: meshd\r\nConnection: close\r\n\r\n".utf8)
        let answer: [UInt8]
        do throws(IOError) {
            guard try SocketStream.send(descriptor, request[...]) == request.count else {
                throw IOError("send", code: EAGAIN)
            }
            answer = try readAll(descriptor)
        } catch {
            throw .interrupted(socket: socket, cause: error.description)
        }
        return try body(of: answer)
    }

    /// What an answer carries, its whole text given (RFC 9112), once its length and status are as they should be.
    package func body(of answer: [UInt8]) throws(AdminClientError) -> [UInt8] {
        let separator = Array("\r\n\r\n".utf8)
        var end: Int?
        for index in answer.indices.dropLast(3) where answer[index..<index + 4].elementsEqual(separator) {
            end = index
            break
        }
        guard let end else { throw .interrupted(socket: socket, cause: "it has no header") }
        let lines = String(decoding: answer[..<end], as: UTF8.self).split(separator: "\r\n")
        let words = lines.first?.split(separator: " ") ?? []
        guard words.count >= 2, let status = Int(words[1]) else {
            throw .interrupted(socket: socket, cause: "it is not HTTP")
        }
        let body = Array(answer[(end + 4)...])
        for line in lines.dropFirst() {
            let field = line.split(separator: ":", maxSplits: 1)
            guard field.count == 2, field[0].lowercased() == "content-length" else { continue }
            guard Int(field[1].drop { $0 == " " }) == body.count else {
                throw .interrupted(socket: socket, cause: "it is \(body.count) bytes, not\(field[1])")
            }
        }
        guard status == 200 || status == 202 else {
            throw .refused(status: status, text: String(decoding: body.prefix(500), as: UTF8.self))
        }
        return body
    }

    // MARK: private

    private func connected() throws(AdminClientError) -> FileDescriptor {
        let number = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        guard number >= 0 else { throw .noDaemon(socket: socket, cause: IOError.last("socket").description) }
        let descriptor = FileDescriptor(owning: number)
        guard var name = ListeningSocket.unixName(socket) else {
            throw .noDaemon(socket: socket, cause: "the path is too long")
        }
        var patience = timeval(tv_sec: Self.timeoutSeconds, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            _ = setsockopt(number, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
        }
        let result = withUnsafeBytes(of: &name) { bytes in
            connect(number, bytes.baseAddress?.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
        }
        if result == 0 { return descriptor }
        if errno == EACCES || errno == EPERM { throw .notPermitted(socket: socket) }
        throw .noDaemon(socket: socket, cause: String(cString: strerror(errno)))
    }

    private func readAll(_ descriptor: borrowing FileDescriptor) throws(IOError) -> [UInt8] {
        var answer: [UInt8] = []
        let chunk = UnsafeMutableRawBufferPointer.allocate(byteCount: 65_536, alignment: 16)
        defer { chunk.deallocate() }
        while answer.count < Self.answerBytesMax {
            guard let count = try descriptor.read(into: chunk) else { throw IOError("read", code: ETIMEDOUT) }
            if count == 0 { return answer }
            answer += chunk[..<count]
        }
        throw IOError("read", code: EMSGSIZE)
    }
}
