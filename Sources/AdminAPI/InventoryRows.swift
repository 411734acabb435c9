package import Telemetry

/// A workload as `meshctl workloads` shows it: local ones by running instance, others by resource.
package struct WorkloadRow: Equatable, Sendable, Decodable, JSONWritable {
    package var id: UInt32 = 0
    /// `namespace/name`.
    package var workload = ""
    package var node = ""
    package var principal = ""
    package var addresses: [String] = []
    package var ports: [UInt16] = []
    package var network = ""
    /// A cgroup of this node is behind it.
    package var running = false
    package var local = false

    package init() {}

    package func write(to json: inout JSONWriter) {
        json.object { json in
            json.member("id", id)
            json.member("workload", workload)
            json.member("node", node)
            json.member("principal", principal)
            json.member("addresses", addresses)
            json.key("ports")
            json.array(ports) { $0.integer($1) }
            json.member("network", network)
            json.member("running", running)
            json.member("local", local)
        }
    }
}

package struct ServiceRow: Equatable, Sendable, Decodable, JSONWritable {
    package struct Port: Equatable, Sendable, Decodable {
        package var port: UInt16
        package var target: UInt16
        package var endpoints: Int
        package init(port: UInt16, target: UInt16, endpoints: Int) {
            self.port = port
            self.target = target
            self.endpoints = endpoints
        }
    }

    /// `namespace/name`.
    package var service = ""
    package var addresses: [String] = []
    package var ports: [Port] = []

    package init() {}

    package func write(to json: inout JSONWriter) {
        json.object { json in
            json.member("service", service)
            json.member("addresses", addresses)
            json.key("ports")
            json.array(ports) { json, port in
                json.object { json in
                    json.member("port", port.port)
                    json.member("target", port.target)
                    json.member("endpoints", port.endpoints)
                }
            }
        }
    }
}

package struct NodeRow: Equatable, Sendable, Decodable, JSONWritable {
    package var node = ""
    package var addresses: [String] = []
    package var local = false
    package var workloads = 0
    package var tunnels = 0
    /// Why connections to it are refused for now; empty while it is reachable, or was never tried.
    package var unreachable = ""

    package init() {}

    package func write(to json: inout JSONWriter) {
        json.object { json in
            json.member("node", node)
            json.member("addresses", addresses)
            json.member("local", local)
            json.member("workloads", workloads)
            json.member("tunnels", tunnels)
            json.member("unreachable", unreachable)
        }
    }
}

package struct TunnelRow: Equatable, Sendable, Decodable, JSONWritable {
    package var id: UInt32 = 0
    /// `outbound` or `inbound`.
    package var direction = ""
    package var peerNode = ""
    package var peer = ""
    package var localPrincipal = ""
    package var peerPrincipal = ""
    package var streams: UInt32 = 0
    package var streamsTotal: UInt64 = 0
    package var rttMicroseconds: UInt32 = 0
    package var retransmits: UInt32 = 0
    /// On the tunnel, as ciphertext.
    package var bytesSent: UInt64 = 0
    package var bytesReceived: UInt64 = 0
    package var ageMilliseconds: UInt64 = 0

    package init() {}

    private enum CodingKeys: String, CodingKey {
        case id, direction, peer, streams, retransmits
        case peerNode = "peer_node"
        case localPrincipal = "local_principal"
        case peerPrincipal = "peer_principal"
        case streamsTotal = "streams_total"
        case rttMicroseconds = "rtt_us"
        case bytesSent = "bytes_sent"
        case bytesReceived = "bytes_received"
        case ageMilliseconds = "age_ms"
    }

    package func write(to json: inout JSONWriter) {
        json.object { json in
            json.member("id", id)
            json.member("direction", direction)
            json.member("peer_node", peerNode)
            json.member("peer", peer)
            json.member("local_principal", localPrincipal)
            json.member("peer_principal", peerPrincipal)
            json.member("streams", streams)
            json.member("streams_total", streamsTotal)
            json.member("rtt_us", rttMicroseconds)
            json.member("retransmits", retransmits)
            json.member("bytes_sent", bytesSent)
            json.member("bytes_received", bytesReceived)
            json.member("age_ms", ageMilliseconds)
        }
    }
}

package struct CertificateRow: Equatable, Sendable, Decodable, JSONWritable {
    package enum State: String, Sendable, Decodable {
        case valid
        /// At most 20 % of its life is left.
        case expiring
        case expired
        /// A workload of this node needs it and there is none that can be used; `problem` says why.
        case missing
    }

    /// The principal, or `trust bundle`.
    package var principal = ""
    package var path = ""
    package var serial = ""
    package var issuer = ""
    /// Seconds since 1970; 0 where there is no certificate.
    package var notBefore: Int64 = 0
    package var notAfter: Int64 = 0
    package var state = State.valid
    package var problem = ""

    package init() {}

    private enum CodingKeys: String, CodingKey {
        case principal, path, serial, issuer, state, problem
        case notBefore = "not_before"
        case notAfter = "not_after"
    }

    package func write(to json: inout JSONWriter) {
        json.object { json in
            json.member("principal", principal)
            json.member("path", path)
            json.member("serial", serial)
            json.member("issuer", issuer)
            json.member("not_before", notBefore)
            json.member("not_after", notAfter)
            json.member("state", state.rawValue)
            json.member("problem", problem)
        }
    }
}
