package import MeshModel

/// Policies as the text of a resource file; the reader takes it back.
package enum PolicyYAML {
    package static func text(_ policy: AuthorizationPolicyResource) -> String {
        var text = head("AuthorizationPolicy", policy)
        if policy.isDryRun { text += "  annotations: {\(quoted("istio.io/dry-run")): \"true\"}\n" }
        text += "spec:\n" + selector(policy) + "  action: \(policy.action.text)\n"
        if !policy.rules.isEmpty { text += "  rules:\n" }
        for rule in policy.rules {
            var parts: [String] = []
            if !rule.from.isEmpty {
                parts.append("from: [" + rule.from.map { "{source: {\(fields($0))}}" }.joined(separator: ", ") + "]")
            }
            if !rule.to.isEmpty {
                let operations = rule.to.map { "{operation: {\(fields($0.ports, "ports", "notPorts"))}}" }
                parts.append("to: [" + operations.joined(separator: ", ") + "]")
            }
            if !rule.when.isEmpty {
                parts.append("when: [" + rule.when.map { "{\(fields($0))}" }.joined(separator: ", ") + "]")
            }
            text += parts.isEmpty ? "    - {}\n" : "    - " + parts.joined(separator: "\n      ") + "\n"
        }
        return text
    }

    package static func text(_ policy: PeerAuthenticationResource) -> String {
        var text = head("PeerAuthentication", policy) + "spec:\n" + selector(policy)
        text += "  mtls: {mode: \(word(policy.mode))}\n"
        if !policy.portModes.isEmpty {
            let ports = policy.portModes.sorted { $0.key < $1.key }.map { "\($0.key): {mode: \(word($0.value))}" }
            text += "  portLevelMtls: {\(ports.joined(separator: ", "))}\n"
        }
        if !policy.exemptions.isEmpty {
            let exemptions = policy.exemptions.map { "{source: \(quoted("\($0.source)")), port: \($0.port)}" }
            text += "  exempt: [\(exemptions.joined(separator: ", "))]\n"
        }
        return text
    }

    package static func text(_ policy: EgressPolicyResource) -> String {
        var text = head("EgressPolicy", policy, version: nil) + "spec:\n" + selector(policy)
        text += "  mode: \(policy.mode.text)\n"
        if policy.mode == .listed { text += "  allow:\n" }
        for entry in policy.mode == .listed ? policy.allowed : [] {
            let destination =
                switch entry.destination {
                case .addresses(let block): "cidr: \(quoted("\(block)"))"
                case .name(let name): "name: \(quoted(name))"
                }
            let ports = entry.ports.isEmpty ? "" : ", ports: [\(entry.ports.map(String.init).joined(separator: ", "))]"
            text += "    - {\(destination)\(ports)}\n"
        }
        if policy.allowsRawSockets { text += "  rawSockets: ALLOW\n" }
        return text
    }

    // MARK: private

    /// `version`: nil for kinds that are none of Istio's.
    private static func head(
        _ kind: String, _ policy: some PolicyResource, version: String? = "security.istio.io/v1"
    ) -> String {
        (version.map { "apiVersion: \($0)\n" } ?? "") + """
            kind: \(kind)
            metadata:
              name: \(quoted(policy.name))
              namespace: \(quoted(policy.namespace))

            """
    }

    private static func selector(_ policy: some PolicyResource) -> String {
        guard !policy.selector.isEmpty else { return "" }
        let labels = policy.selector.sorted { $0.key < $1.key }.map { "\(quoted($0.key)): \(quoted($0.value))" }
        return "  selector: {matchLabels: {\(labels.joined(separator: ", "))}}\n"
    }

    private static func word(_ setting: InboundSetting) -> String {
        switch setting {
        case .unset: "UNSET"
        case .strict: "STRICT"
        case .permissive: "PERMISSIVE"
        }
    }

    private static func fields(_ source: AuthorizationPolicyResource.Source) -> String {
        [
            fields(source.principals, "principals", "notPrincipals"),
            fields(source.namespaces, "namespaces", "notNamespaces"),
            fields(source.serviceAccounts, "serviceAccounts", "notServiceAccounts"),
            fields(source.addresses, "ipBlocks", "notIpBlocks"),
        ].filter { !$0.isEmpty }.joined(separator: ", ")
    }

    private static func fields(_ condition: AuthorizationPolicyResource.Condition) -> String {
        let (key, values) =
            switch condition {
            case .sourceAddress(let match): ("source.ip", fields(match, "values", "notValues"))
            case .sourceNamespace(let match): ("source.namespace", fields(match, "values", "notValues"))
            case .sourcePrincipal(let match): ("source.principal", fields(match, "values", "notValues"))
            case .sourceServiceAccount(let match): ("source.serviceAccount", fields(match, "values", "notValues"))
            case .destinationAddress(let match): ("destination.ip", fields(match, "values", "notValues"))
            case .destinationPort(let match): ("destination.port", fields(match, "values", "notValues"))
            }
        return "key: \(key), \(values)"
    }

    private static func fields<Value>(_ match: PolicyMatch<Value>, _ key: String, _ notKey: String) -> String {
        [(key, match.values), (notKey, match.notValues)].filter { !$0.1.isEmpty }.map { key, values in
            "\(key): [\(values.map { quoted("\($0)") }.joined(separator: ", "))]"
        }.joined(separator: ", ")
    }

    /// Quotes always: what looks like a number or a pattern is a text then.
    private static func quoted(_ text: String) -> String {
        let escaped = text.map { $0 == "\"" || $0 == "\\" ? "\\\($0)" : "\($0)" }.joined()
        return "\"\(escaped)\""
    }
}
