/// What Istio's telemetry calls a workload: read from the labels that Istio reads, with the resource's name where there
/// are none (`istio.io/latest/docs/ops/configuration/telemetry`: canonical service and revision).
package struct CanonicalNames: Hashable, Sendable {
    package var app: String
    package var version: String
    package var service: String
    package var revision: String

    /// Stands in Istio's `source_cluster` and `destination_cluster`, and in the baggage, where nothing else is configured.
    package static let cluster = "culvert"
    /// Without a version label.
    package static let latest = "latest"

    package init(name: String, labels: [String: String]) {
        let app = labels["app.kubernetes.io/name"] ?? labels["app"]
        let version = labels["app.kubernetes.io/version"] ?? labels["version"]
        self.app = app ?? name
        self.version = version ?? Self.latest
        service = labels["service.istio.io/canonical-name"] ?? app ?? name
        revision = labels["service.istio.io/canonical-revision"] ?? version ?? Self.latest
    }
}
