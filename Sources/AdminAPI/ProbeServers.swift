package import LinuxIO
package import MeshModel

/// Serves `/metrics` (and `/stats/prometheus`, where Istio's scrape configurations look) on a port of its own.
package final class MetricsServer {
    private let server: HTTPServer
    /// The port that it listens on, for an address with port 0.
    package let port: UInt16

    package init(
        reactor: Reactor, address: SocketAddress, body: @escaping () -> [UInt8]
    ) throws(IOError) {
        let listener = try ListeningSocket.tcp(address)
        port = try ListeningSocket.port(of: listener)
        server = try HTTPServer(reactor: reactor, listener: listener) { request in
            switch request.path {
            case "/metrics", "/stats/prometheus":
                HTTPResponse(contentType: "text/plain; version=0.0.4; charset=utf-8", body: body())
            default: .notFound
            }
        }
    }
}

/// Serves `/healthz/ready`: 200 once the node takes connections into the mesh, 503 with the reason before.
package final class ReadinessServer {
    private let server: HTTPServer
    package let port: UInt16

    package init(
        reactor: Reactor, address: SocketAddress, isReady: @escaping () -> (ready: Bool, reason: String)
    ) throws(IOError) {
        let listener = try ListeningSocket.tcp(address)
        port = try ListeningSocket.port(of: listener)
        server = try HTTPServer(reactor: reactor, listener: listener) { request in
            guard request.path == "/healthz/ready" else { return .notFound }
            let state = isReady()
            return .text(state.reason + "\n", status: state.ready ? 200 : 503)
        }
    }
}
