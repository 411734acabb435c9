// AdminAPI lets people and machines ask a node: the admin socket (HTTP and JSON on a Unix socket), `/metrics`, the
// readiness probe, the client that meshctl uses, and the ring of connection records on disk. It knows no facts of its
// own: meshd answers through `AdminBackend` and hands in what is recorded. The one thing that it can ask meshd to do is to
// go on as the installed binary, and only root can ask that.

/// A parsed request line; headers and bodies mean nothing here.
package struct HTTPRequest: Equatable, Sendable {
    package var method: String
    package var path: String
    package var query: [String: String]
    /// Who asks, on a Unix socket; set by the server.
    package var peerUID: UInt32?

    package init(method: String, path: String, query: [String: String]) {
        self.method = method
        self.path = path
        self.query = query
    }

    /// Everything up to the empty line that ends the header, at most.
    package static let bytesMax = 8_192

    package enum Parsed: Equatable, Sendable {
        case incomplete
        case malformed
        case request(HTTPRequest)
    }

    /// Parses what has come so far (RFC 9112 section 3), any bytes at all.
    package static func parse(_ bytes: ArraySlice<UInt8>) -> Parsed {
        guard let end = endOfHeader(bytes) else { return bytes.count >= bytesMax ? .malformed : .incomplete }
        let line = bytes[..<end].prefix { $0 != 0x0d && $0 != 0x0a }
        let words = line.split(separator: 0x20, omittingEmptySubsequences: false)
        guard words.count == 3, !words[0].isEmpty, words[1].first == UInt8(ascii: "/"),
            words[2].elementsEqual("HTTP/1.1".utf8) || words[2].elementsEqual("HTTP/1.0".utf8),
            line.allSatisfy({ $0 >= 0x20 && $0 < 0x7f })
        else { return .malformed }
        let target = String(decoding: words[1], as: UTF8.self)
        let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        var query: [String: String] = [:]
        for field in parts.count > 1 ? parts[1].split(separator: "&") : [] {
            let pair = field.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            query[String(pair[0])] = pair.count > 1 ? String(pair[1]) : ""
        }
        return .request(
            HTTPRequest(method: String(decoding: words[0], as: UTF8.self), path: String(parts[0]), query: query))
    }

    // MARK: private

    private static func endOfHeader(_ bytes: ArraySlice<UInt8>) -> Int? {
        var isLineEmpty = false
        for index in bytes.indices {
            switch bytes[index] {
            case 0x0a:
                if isLineEmpty { return index }
                isLineEmpty = true
            case 0x0d: break
            default: isLineEmpty = false
            }
        }
        return nil
    }
}

package struct HTTPResponse: Equatable, Sendable {
    package var status: Int
    package var contentType: String
    package var body: [UInt8]

    package init(_ status: Int = 200, contentType: String = "text/plain; charset=utf-8", body: [UInt8]) {
        self.status = status
        self.contentType = contentType
        self.body = body
    }

    package static func text(_ text: String, status: Int = 200) -> HTTPResponse {
        HTTPResponse(status, body: Array(text.utf8))
    }

    package static func json(_ body: [UInt8], status: Int = 200) -> HTTPResponse {
        HTTPResponse(status, contentType: "application/json", body: body)
    }

    package static let notFound = text("no such page\n", status: 404)

    /// Status line, header and body. The connection ends after it.
    package var bytes: [UInt8] {
        var bytes = Array(
            """
            HTTP/1.1 \(status) \(Self.phrase(status))\r
            Content-Type: \(contentType)\r
            Content-Length: \(body.count)\r
            Cache-Control: no-store\r
            Connection: close\r
            \r

            """.utf8)
        bytes += body
        return bytes
    }

    // MARK: private

    private static func phrase(_ status: Int) -> String {
        switch status {
        case 200: "OK"
        case 202: "Accepted"
        case 403: "Forbidden"
        case 409: "Conflict"
        case 400: "Bad Request"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 503: "Service Unavailable"
        default: "Unknown"
        }
    }
}
