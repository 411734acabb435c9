import FoundationEssentials
package import MeshModel

/// What a connection record on disk says about who called whom; records of older versions say less than today's.
package struct RecordedConnection: Decodable, Equatable, Sendable {
    package var verdict: String
    package var reason: String
    package var sourcePrincipal: String
    package var sourceWorkload: String?
    package var destinationWorkload: String
    package var source: String
    package var originalDestination: String
    package var service: String

    private enum CodingKeys: String, CodingKey {
        case verdict, reason, source, service
        case sourcePrincipal = "source_principal"
        case sourceWorkload = "source_workload"
        case destinationWorkload = "destination_workload"
        case originalDestination = "original_destination"
    }

    /// The records of a file or an answer, one JSON object a line; `unreadable` counts those that are none.
    package static func read(_ bytes: [UInt8]) -> (records: [RecordedConnection], unreadable: Int) {
        var records: [RecordedConnection] = []
        var unreadable = 0
        let decoder = JSONDecoder()
        for line in bytes.split(separator: 0x0a) {
            if let record = try? decoder.decode(RecordedConnection.self, from: Data(line)) {
                records.append(record)
            } else {
                unreadable += 1
            }
        }
        return (records, unreadable)
    }

    /// Whether policies let it in; nil where something else decided, or where it was none of the mesh's connections.
    package var wasAllowed: Bool? {
        if Reason(name: reason)?.isPolicy == true { return false }
        return verdict == "allowed" ? true : nil
    }

    /// Whether egress policies let it out; nil where it was none of theirs to judge.
    package var wasLetOut: Bool? {
        if Reason(name: reason)?.isEgressPolicy == true { return false }
        return verdict == "passthrough" && reason == "none" && destinationWorkload.isEmpty ? true : nil
    }

    package var destination: SocketAddress? { SocketAddress(parsing: originalDestination) }

    package var caller: ResourceName? { sourceWorkload.flatMap(Self.workload) }

    package var sourceAddress: IPAddress { SocketAddress(parsing: source)?.address ?? .unspecified }

    package var port: UInt16? { SocketAddress(parsing: originalDestination)?.port }

    package var workload: ResourceName? { Self.workload(destinationWorkload) }

    private static func workload(_ text: String) -> ResourceName? {
        let parts = text.split(separator: "/").map(String.init)
        return parts.count == 2 ? ResourceName(namespace: parts[0], name: parts[1]) : nil
    }
}
