/// `docs/CONFIGURATION.md`, made from the tables that the readers use.
package enum ConfigurationReference {
    package static var markdown: String {
        var text = """
            # Configuration

            Made from the tables in `Sources/MeshConfig` by `ConfigurationReference`; a test compares the two. Write
            the tables, then run `CULVERT_WRITE_REFERENCE=1 swift test --filter ConfigurationReferenceTests`.

            Both kinds of file are YAML and are read strictly: an unknown key, a wrong type or a value out of bounds is
            an error with file, line and column, and all errors are shown at once. `meshctl config validate` checks
            files without a running meshd.

            ## meshd.yaml

            `/etc/culvert/meshd.yaml` unless `meshd --config` says otherwise. A dot in a name is one level of nesting.


            """
        text += row(["Option", "Default", "Takes", "Meaning"]) + row(["---", "---", "---", "---"])
        for option in ConfigurationOption.all {
            text += row(["`\(option.path)`", defaultText(option), option.kind.expectation, option.meaning])
        }
        text += """

            ## Resources

            Every `*.yaml` and `*.yml` file of the directory `resources`, in any split: documents are separated by
            `---`, and each is one resource with `kind`, `metadata` and `spec`. Files whose names begin with a dot are left
            alone. A change that does not validate as a whole is not taken: the last good state
            stays in force, and `meshctl status`, the log and the metrics say so.


            """
        for kind in ResourceField.kinds {
            text += "### \(kind)\n\n"
            text += row(["Field", "Type", "Without it", "Meaning"]) + row(["---", "---", "---", "---"])
            for field in ResourceField.fields(ofKind: kind) {
                text += row(["`\(field.path)`", field.type, field.standard ?? "required", field.meaning])
            }
            text += "\n"
        }
        return text + examples
    }

    // MARK: private

    private static func row(_ cells: [String]) -> String { "| \(cells.joined(separator: " | ")) |\n" }

    private static func defaultText(_ option: ConfigurationOption) -> String {
        switch option.standard {
        case .required: "required"
        case .value(""): "empty"
        case .value(let text): "`\(text)`"
        case .derived(let text): text
        }
    }

    private static let examples = """
        ### Example

        ```yaml
        \(exampleResources)```

        """

    /// Two nodes, a client and a service; a test reads it without a complaint.
    package static let exampleResources = """
        kind: Node
        metadata: {name: a}
        spec: {tunnelAddresses: [10.77.0.1, "fd77::1"]}
        ---
        kind: Node
        metadata: {name: b}
        spec: {tunnelAddresses: [10.77.0.2, "fd77::2"]}
        ---
        kind: Workload
        metadata: {name: curl, namespace: shop}
        spec:
          serviceAccount: curl
          node: a
          selector: {cgroup: workloads/curl}
          addresses: [10.77.0.1, "fd77::1"]
        ---
        kind: Workload
        metadata: {name: web, namespace: shop, labels: {app: web}}
        spec:
          serviceAccount: web
          node: b
          selector: {systemdUnit: nginx.service}
          addresses: [10.77.0.2, "fd77::2"]
          ports: [8080]
        ---
        kind: Service
        metadata: {name: web, namespace: shop}
        spec:
          virtualAddresses: [10.96.0.10, "fd96::10"]
          ports: [{port: 80, targetPort: 8080}]
          selector: {app: web}
        ---
        apiVersion: security.istio.io/v1
        kind: AuthorizationPolicy
        metadata: {name: web, namespace: shop}
        spec:
          selector: {matchLabels: {app: web}}
          rules:
            - from: [{source: {serviceAccounts: [curl]}}]
              to: [{operation: {ports: ["8080"]}}]
        ---
        kind: EgressPolicy
        metadata: {name: default, namespace: shop}
        spec:
          mode: LISTED
          allow:
            - {name: "*.example.org", ports: [443]}
            - {cidr: 192.0.2.0/24}

        """
}
