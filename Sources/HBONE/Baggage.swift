package import MeshModel

/// The `baggage` header with the keys that ztunnel sends (W3C Baggage): what the other end calls its workload. A
/// received one gives labels to telemetry and nothing else.
package struct Baggage: Equatable, Sendable, CustomStringConvertible {
    package static let lengthMax = 4_096
    static let membersMax = 32
    static let valueLengthMax = 253

    package var cluster = ""
    package var namespace = ""
    /// `deployment`, `pod`, `job` or `cronjob`.
    package var workloadKind = ""
    package var workload = ""
    package var service = ""
    package var version = ""
    package var region = ""
    package var zone = ""

    package init() {}

    /// What a workload of this mesh is called.
    package init(_ workload: WorkloadView, cluster: String) {
        let name = workload.name
        let canonical = CanonicalNames(name: name, labels: workload.labels)
        self.cluster = cluster
        namespace = workload.namespace
        self.workload = name
        service = canonical.service
        version = canonical.revision
    }

    /// Members with values, in ztunnel's order.
    package var description: String {
        let kind = workloadKind.isEmpty ? "deployment" : workloadKind
        let members = [
            ("k8s.cluster.name", cluster), ("k8s.namespace.name", namespace), ("k8s.\(kind).name", workload),
            ("service.name", service), ("service.version", version), ("cloud.region", region),
            ("cloud.availability_zone", zone),
        ]
        return members.filter { !$0.1.isEmpty && Self.isValue($0.1.utf8) }.map { "\($0.0)=\($0.1)" }
            .joined(separator: ",")
    }

    /// Takes what it knows and leaves out the rest; nil only where the whole is too long to look at.
    package init?(parsing bytes: UnsafeRawBufferPointer) {
        guard bytes.count <= Self.lengthMax else { return nil }
        self.init()
        let members = bytes.split(separator: UInt8(ascii: ","), maxSplits: Self.membersMax)
        for member in members.prefix(Self.membersMax) {
            // Properties behind a semicolon say nothing that is used here.
            let pair = member.prefix { $0 != UInt8(ascii: ";") }
            guard let equals = pair.firstIndex(of: UInt8(ascii: "=")) else { continue }
            let key = Self.trimmed(pair[..<equals])
            let value = Self.trimmed(pair[(equals + 1)...])
            guard Self.isValue(value) else { continue }
            take(String(decoding: key, as: UTF8.self), String(decoding: value, as: UTF8.self))
        }
    }

    // MARK: private

    private mutating func take(_ key: String, _ value: String) {
        switch key {
        case "k8s.cluster.name": cluster = value
        case "k8s.namespace.name": namespace = value
        case "service.name": service = value
        case "service.version": version = value
        case "cloud.region": region = value
        case "cloud.availability_zone": zone = value
        case "k8s.deployment.name", "k8s.pod.name", "k8s.job.name", "k8s.cronjob.name":
            workloadKind = String(key.dropFirst("k8s.".count).dropLast(".name".count))
            workload = value
        default: break
        }
    }

    /// Printable characters without those that structure the header.
    private static func isValue(_ bytes: some Collection<UInt8>) -> Bool {
        bytes.count <= valueLengthMax
            && bytes.allSatisfy {
                $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: ",") && $0 != UInt8(ascii: ";") && $0 != UInt8(ascii: "\"")
                    && $0 != UInt8(ascii: "\\")
            }
    }

    private static func trimmed(_ bytes: Slice<UnsafeRawBufferPointer>) -> Slice<UnsafeRawBufferPointer> {
        let isBlank: (UInt8) -> Bool = { $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\t") }
        var bytes = bytes.drop(while: isBlank)
        while let last = bytes.last, isBlank(last) { bytes = bytes.dropLast() }
        return bytes
    }
}
