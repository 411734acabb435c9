import CMeshABI
import HBONE
import HTTP2Framing
import MeshModel
import Testing

@Suite struct ConnectExchangeTests {
    private let connect = [(":method", "CONNECT"), (":authority", "10.0.0.1:80")]

    @Test func aRequestComesBackThroughHPACK() throws {
        let request = ConnectRequest(
            authority: try #require(Authority("web.shop:80")),
            forwarded: Forwarded(client: SocketAddress(parsing: "10.0.0.9:4242"), host: "web.shop"),
            traceParent: TraceParent(traceHigh: 1, traceLow: 2, parent: 3), baggage: Baggage("service.name=web"))
        guard var encoder = HeaderEncoder() else { throw NoMemory() }
        guard var decoder = HeaderDecoder() else { throw NoMemory() }
        var fields = HeaderFields()
        var sizes: [Int] = []
        for _ in 0..<3 {
            ConnectRequest.write(
                authority: request.authority, forwarded: request.forwarded, traceParent: request.traceParent,
                baggage: request.baggage?.description, to: &fields)
            let block = [UInt8](unsafeUninitializedCapacity: encoder.sizeMax(of: fields)) { buffer, count in
                count = encoder.encode(fields, to: UnsafeMutableRawBufferPointer(buffer)) ?? 0
            }
            sizes.append(block.count)
            var reader = ConnectRequestReader()
            let outcome = block.withUnsafeBytes { decoder.decode($0, isLast: true) { reader.field($0, $1) } }
            #expect(outcome == .complete && reader.finish() == .connect(request))
        }
        #expect(sizes[1] < sizes[0] && sizes[2] == sizes[1], "what repeats is not in the table: \(sizes)")
    }

    @Test func envoysBareRequestIsTaken() throws {
        let authority = try #require(Authority("10.0.0.1:80"))
        #expect(read(request: connect) == .connect(ConnectRequest(authority: authority)))
        let broken =
            connect + [("forwarded", "for="), ("traceparent", "?"), ("x-istio-source", "waypoint"), ("te", "trailers")]
        #expect(read(request: broken) == .connect(ConnectRequest(authority: authority)))
    }

    @Test func lawfulRequestsThatAreNotServedAreRefusedWithTheirReason() {
        let get = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "web")]
        #expect(read(request: get) == .refused(.MESH_REASON_NOT_CONNECT))
        #expect(read(request: [(":method", "connect"), (":authority", "a:1")]) == .refused(.MESH_REASON_NOT_CONNECT))
        for authority in ["", "web", "10.0.0.1", "web:0"] {
            let request = [(":method", "CONNECT"), (":authority", authority)]
            #expect(read(request: request) == .refused(.MESH_REASON_AUTHORITY_MALFORMED))
        }
        #expect(read(request: connect, isTooLarge: true) == .refused(.MESH_REASON_HEADERS_TOO_LARGE))
        #expect(ConnectResponse.status(for: .MESH_REASON_NOT_CONNECT) == .badRequest)
        #expect(ConnectResponse.status(for: .MESH_REASON_AUTHORITY_PRINCIPAL_MISMATCH) == .badRequest)
        #expect(ConnectResponse.status(for: .MESH_REASON_POLICY_DENIED) == .unauthorized)
        #expect(ConnectResponse.status(for: .MESH_REASON_CONNECT_REFUSED) == .unavailable)
        #expect(ConnectResponse.status(for: .MESH_REASON_AUTHORITY_UNKNOWN) == .badRequest)
    }

    private static let base = [(":method", "CONNECT"), (":authority", "a:1")]

    private static let malformed: [(what: String, fields: [(String, String)])] = [
        ("no method", [(":authority", "a:1")]),
        ("nothing", []),
        ("no authority", [(":method", "CONNECT")]),
        ("two methods", [(":method", "CONNECT")] + base),
        ("a late pseudo-field", [(":method", "CONNECT"), ("x", "y"), (":authority", "a:1")]),
    ]

    /// What breaks a lawful request when it stands behind it.
    private static let malformedEnd: [(String, String)] = [
        (":scheme", "https"), (":path", "/"), (":protocol", "websocket"), (":authority", "b:1"), (":status", "200"),
        ("X-a", "y"), ("", "y"), (":", "y"), ("x y", "z"), ("x", "y\r\nz: 1"), ("x", "y\0"), ("x", " y"),
        ("connection", "close"), ("transfer-encoding", "chunked"), ("te", "gzip"),
    ]

    @Test func malformedRequestsAreProtocolErrors() {
        let all = Self.malformed + Self.malformedEnd.map { (what: "\($0)", fields: Self.base + [$0]) }
        for (what, fields) in all {
            #expect(read(request: fields) == .malformed(.protocolError), "\(what)")
        }
    }

    @Test func answersComeBackThroughHPACK() throws {
        var encoder = ConnectResponseEncoder()
        guard var decoder = HeaderDecoder() else { throw NoMemory() }
        for status in [ConnectResponse.Status.ok, .badRequest, .unauthorized, .unavailable, .ok] {
            var block = [UInt8](repeating: 0, count: ConnectResponseEncoder.sizeMax)
            let count = block.withUnsafeMutableBytes { encoder.encode(status, to: $0) }
            var reader = ConnectResponseReader()
            let outcome = block.prefix(count).withUnsafeBytes {
                decoder.decode($0, isLast: true) { reader.field($0, $1) }
            }
            #expect(outcome == .complete)
            #expect(reader.finish(endsStream: false) == (status == .ok ? .accepted : .refused(status: status.rawValue)))
        }
    }

    private static let answers: [(fields: [(String, String)], outcome: ConnectResponseReader.Outcome)] = [
        ([(":status", "200")], .accepted),
        ([(":status", "200"), ("baggage", "service.name=web"), ("server", "envoy")], .accepted),
        ([(":status", "204")], .refused(status: 204)),
        ([(":status", "503")], .refused(status: 503)),
        ([(":status", "100")], .interim),
        ([(":status", "103"), ("link", "x")], .interim),
    ]

    private static let malformedAnswers: [[(String, String)]] = [
        [], [(":status", "101")], [(":status", "099")], [(":status", "20")], [(":status", "2000")],
        [(":status", "2OO")], [(":status", "200"), (":status", "200")], [("x", "y"), (":status", "200")],
        [(":status", "200"), (":method", "CONNECT")], [(":status", "200"), ("connection", "close")],
    ]

    @Test func readsAnswers() {
        for (fields, outcome) in Self.answers { #expect(read(response: fields) == outcome, "\(fields)") }
        for fields in Self.malformedAnswers {
            #expect(read(response: fields) == .malformed(.protocolError), "\(fields)")
        }
    }

    @Test func anInterimAnswerCannotEndTheStream() {
        #expect(read(response: [(":status", "100")], endsStream: true) == .malformed(.protocolError))
        #expect(read(response: [(":status", "200")], endsStream: true) == .accepted)
    }
}

private struct NoMemory: Error {}
