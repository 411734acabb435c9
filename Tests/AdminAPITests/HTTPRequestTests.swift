import Testing

@testable import AdminAPI

@Suite struct HTTPRequestTests {
    @Test func requestIsCompleteOnlyAtTheEmptyLine() {
        let bytes = Array("GET /v1/flows?after=7&limit=9 HTTP/1.1\r\nHost: x\r\n\r\n".utf8)
        for length in 0..<bytes.count { #expect(HTTPRequest.parse(bytes[..<length]) == .incomplete) }
        #expect(
            HTTPRequest.parse(bytes[...])
                == .request(
                    HTTPRequest(method: "GET", path: "/v1/flows", query: ["after": "7", "limit": "9"])))
    }

    @Test(arguments: [
        "GET /\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n", "GET x HTTP/1.1\r\n\r\n", "\r\n\r\n", "GET / HTTP/2\r\n\r\n",
        "GET /\u{1} HTTP/1.1\r\n\r\n",
    ]) func malformedRequestLinesAreRefused(text: String) {
        #expect(HTTPRequest.parse(Array(text.utf8)[...]) == .malformed)
    }

    @Test func headerBeyondTheBoundIsRefused() {
        let bytes = [UInt8](repeating: 0x41, count: HTTPRequest.bytesMax)
        #expect(HTTPRequest.parse(bytes[...]) == .malformed)
    }
}
