package import LinuxIO
package import Telemetry

/// The facts that the admin socket serves; meshd implements it. Every call is made on the control thread and must be
/// quick: the reactor waits for it.
package protocol AdminBackend: AnyObject {
    func status() -> NodeStatus
    func checks() -> [CheckFact]
    /// Flows that changed after `change`, oldest change first, at most `limit`. 0 is the beginning: every flow of the
    /// table, with counters as of now.
    func flows(changedAfter change: UInt64, limit: Int) -> FlowPage
    func services() -> [ServiceRow]
    func workloads() -> [WorkloadRow]
    func nodes() -> [NodeRow]
    func tunnels() -> [TunnelRow]
    func certificates() -> [CertificateRow]
    /// Newest first, each one JSON object.
    func records(limit: Int) -> [[UInt8]]
    /// The snapshot in force, as the proxy maps it; nil before there is one.
    func snapshotBytes() -> [UInt8]?
    /// Goes on as the installed binary, with a proxy of that binary, soon after this call; or why it can't.
    func upgrade() -> String?
    /// The same of what ended at this time or later (milliseconds from 1970), and whether there is more of it.
    func records(since: Int64) -> (records: [[UInt8]], more: Bool)
}

/// HTTP and JSON on a Unix socket, for its owner and one group. It only tells, but for the upgrade, which root alone may
/// ask for and which has no parameter.
package final class AdminServer {
    /// Flows in one answer: bounds the memory and the time that one request takes.
    package static let flowsPerPageMax = 2_000
    package static let recordsMax = 10_000

    private let server: HTTPServer

    /// `backend` is not kept alive by this.
    package init(
        reactor: Reactor, socket: String, group: String, backend: any AdminBackend
    ) throws(IOError) {
        let listener = try ListeningSocket.unix(path: socket, group: group)
        server = try HTTPServer(reactor: reactor, listener: listener, methods: ["GET", "POST"]) {
            [weak backend] request in
            guard let backend else { return .text("meshd is ending\n", status: 503) }
            return Self.answer(request, backend)
        }
    }

    package static func answer(_ request: HTTPRequest, _ backend: any AdminBackend) -> HTTPResponse {
        if request.method == "POST" { return change(request, backend) }
        return switch request.path {
        case "/v1/status": .json(backend.status().jsonBytes)
        case "/v1/check": .json(RowList(backend.checks()).jsonBytes)
        case "/v1/flows": flows(request, backend)
        case "/v1/services": .json(RowList(backend.services()).jsonBytes)
        case "/v1/workloads": .json(RowList(backend.workloads()).jsonBytes)
        case "/v1/nodes": .json(RowList(backend.nodes()).jsonBytes)
        case "/v1/tunnels": .json(RowList(backend.tunnels()).jsonBytes)
        case "/v1/certificates": .json(RowList(backend.certificates()).jsonBytes)
        case "/v1/records": records(request, backend)
        case "/v1/snapshot": snapshot(backend)
        case "/v1/history": history(request, backend)
        default: .notFound
        }
    }

    // MARK: private

    private static func change(_ request: HTTPRequest, _ backend: any AdminBackend) -> HTTPResponse {
        guard request.path == "/v1/upgrade" else { return .notFound }
        guard request.peerUID == 0 else { return .text("only root may upgrade meshd\n", status: 403) }
        if let fault = backend.upgrade() { return .text(fault + "\n", status: 409) }
        return .text("begins\n", status: 202)
    }

    private static func flows(_ request: HTTPRequest, _ backend: any AdminBackend) -> HTTPResponse {
        guard let after = number(request.query["after"], otherwise: UInt64(0)),
            let limit = number(request.query["limit"], otherwise: flowsPerPageMax), limit > 0
        else { return .text("after and limit take numbers\n", status: 400) }
        return .json(backend.flows(changedAfter: after, limit: min(limit, flowsPerPageMax)).jsonBytes)
    }

    private static func records(_ request: HTTPRequest, _ backend: any AdminBackend) -> HTTPResponse {
        guard let limit = number(request.query["limit"], otherwise: 100), limit > 0 else {
            return .text("limit takes a number\n", status: 400)
        }
        var body: [UInt8] = []
        for record in backend.records(limit: min(limit, recordsMax)) {
            body += record
            body.append(0x0a)
        }
        return HTTPResponse(contentType: "application/jsonl", body: body)
    }

    private static func snapshot(_ backend: any AdminBackend) -> HTTPResponse {
        guard let bytes = backend.snapshotBytes() else { return .text("there is no snapshot yet\n", status: 503) }
        return HTTPResponse(contentType: "application/octet-stream", body: bytes)
    }

    private static func history(_ request: HTTPRequest, _ backend: any AdminBackend) -> HTTPResponse {
        guard let since = number(request.query["since"], otherwise: Int64(0)) else {
            return .text("since takes milliseconds from 1970\n", status: 400)
        }
        let (records, more) = backend.records(since: since)
        return .json(RecordPage.json(records, more: more))
    }

    private static func number<Number: FixedWidthInteger>(_ text: String?, otherwise: Number) -> Number? {
        guard let text else { return otherwise }
        return Number(text)
    }
}
