import MeshModel

// Makes policies from documents. A rule must say something that can be enforced, and mean what its text says: what
// would silently never match, or match more than it names, is an error.

extension ResourceReader {
    static func authorizationPolicy(
        _ reader: inout FieldReader, _ root: FieldReader.Fields, _ metadata: FieldReader.Fields,
        _ spec: FieldReader.Fields
    ) -> AuthorizationPolicyResource? {
        apiVersion(&reader, root)
        let (name, namespace) = names(&reader, metadata)
        let isDryRun = dryRun(&reader, metadata)
        let selector = matchLabels(&reader, spec)
        let action = reader.choice(
            "action", in: spec, [("ALLOW", AuthorizationPolicyResource.Action.allow), ("DENY", .deny)],
            standard: .allow,
            refusals: [
                "AUDIT": "nothing is only audited; use `istio.io/dry-run`",
                "CUSTOM": "no external authorizer is asked",
            ])
        var rules: [AuthorizationPolicyResource.Rule] = []
        for (index, node) in reader.list("rules", in: spec, of: "rules").enumerated() {
            rules.append(rule(&reader, node, path: "spec.rules[\(index)]", namespace: namespace ?? ""))
        }
        guard let name, let namespace, let action else { return nil }
        return AuthorizationPolicyResource(
            name: name, namespace: namespace, selector: selector, action: action, isDryRun: isDryRun, rules: rules)
    }

    static func peerAuthentication(
        _ reader: inout FieldReader, _ root: FieldReader.Fields, _ metadata: FieldReader.Fields,
        _ spec: FieldReader.Fields
    ) -> PeerAuthenticationResource? {
        apiVersion(&reader, root)
        let (name, namespace) = names(&reader, metadata)
        let selector = matchLabels(&reader, spec)
        let mode = mode(&reader, reader.section("mtls", in: spec, isRequired: false))
        let ports = portModes(&reader, spec)
        if !ports.isEmpty && selector.isEmpty {
            reader.diagnostics.error(
                reader.positions["spec.portLevelMtls"] ?? spec.position,
                "`spec.portLevelMtls` without `spec.selector`, expected the workloads whose ports they are")
        }
        var exemptions: [PeerAuthenticationResource.Exemption] = []
        for (index, node) in reader.list("exempt", in: spec, of: "exemptions").enumerated() {
            let path = "spec.exempt[\(index)]"
            let fields = reader.fields(node, path: path, tablePath: "spec.exempt[]")
            let source = reader.required("source", in: fields, expected: Self.blockExpectation).flatMap {
                reader.block($0, path: "\(path).source")
            }
            let port = reader.required("port", in: fields, expected: "a port from 1 to 65535").flatMap {
                reader.policyPort($0, path: "\(path).port")
            }
            guard let source, let port else { continue }
            exemptions.append(PeerAuthenticationResource.Exemption(source: source, port: port))
        }
        guard let name, let namespace else { return nil }
        return PeerAuthenticationResource(
            name: name, namespace: namespace, selector: selector, mode: mode, portModes: ports,
            exemptions: exemptions)
    }

    static func egressPolicy(
        _ reader: inout FieldReader, _ metadata: FieldReader.Fields, _ spec: FieldReader.Fields
    ) -> EgressPolicyResource? {
        let (name, namespace) = names(&reader, metadata)
        let selector = matchLabels(&reader, spec)
        let mode = reader.choice(
            "mode", in: spec, [("ALLOW", EgressPolicyResource.Mode.allow), ("DENY", .deny), ("LISTED", .listed)])
        let rawSockets = reader.choice("rawSockets", in: spec, [("ALLOW", true), ("DENY", false)], standard: false)
        let nodes = reader.list("allow", in: spec, of: "destinations")
        let entries = nodes.enumerated().compactMap { index, node in
            entry(&reader, node, path: "spec.allow[\(index)]")
        }
        let position = reader.positions["spec.allow"] ?? spec.position
        if let mode, mode != .listed, spec.values["allow"] != nil {
            reader.diagnostics.error(
                position, "`spec.allow` with mode \(mode.text), expected it with mode LISTED only")
        } else if mode == .listed, nodes.isEmpty {
            reader.diagnostics.error(
                position, "`spec.allow` is empty, expected at least one destination; to allow none, write mode DENY")
        }
        guard let name, let namespace, let mode, let rawSockets else { return nil }
        return EgressPolicyResource(
            name: name, namespace: namespace, selector: selector, mode: mode, allowed: entries,
            allowsRawSockets: rawSockets)
    }

    static let blockExpectation = "an address or a CIDR without bits behind its prefix, as `10.0.0.0/8`"

    // MARK: private

    private static func names(
        _ reader: inout FieldReader, _ metadata: FieldReader.Fields
    ) -> (name: String?, namespace: String?) {
        (reader.text("name", in: metadata), reader.text("namespace", in: metadata, standard: "default"))
    }

    private static func apiVersion(_ reader: inout FieldReader, _ root: FieldReader.Fields) {
        let known = ["security.istio.io/v1", "security.istio.io/v1beta1"]
        _ = reader.text(
            "apiVersion", in: root, standard: "", expected: known.map { "`\($0)`" }.joined(separator: " or "),
            isValid: known.contains)
    }

    private static func dryRun(_ reader: inout FieldReader, _ metadata: FieldReader.Fields) -> Bool {
        let key = "istio.io/dry-run"
        var isDryRun = false
        for annotation in reader.labels("annotations", in: metadata).sorted(by: { $0.key < $1.key }) {
            let position = reader.positions["metadata.annotations"] ?? metadata.position
            if annotation.key != key {
                reader.diagnostics.error(
                    position,
                    "unknown annotation `\(annotation.key)`, expected `\(key)`"
                        + Suggestion.clause(for: annotation.key, among: [key]))
            } else if annotation.value != "true" && annotation.value != "false" {
                reader.diagnostics.error(
                    position, "annotation `\(key)` is \"\(annotation.value)\", expected \"true\" or \"false\"")
            } else {
                isDryRun = annotation.value == "true"
            }
        }
        return isDryRun
    }

    private static func matchLabels(_ reader: inout FieldReader, _ spec: FieldReader.Fields) -> [String: String] {
        guard spec.values["selector"] != nil else { return [:] }
        let selector = reader.section("selector", in: spec)
        return reader.labels("matchLabels", in: selector, isRequired: true)
    }

    private static func rule(
        _ reader: inout FieldReader, _ node: YAMLNode, path: String, namespace: String
    ) -> AuthorizationPolicyResource.Rule {
        let fields = reader.fields(node, path: path, tablePath: "spec.rules[]")
        var rule = AuthorizationPolicyResource.Rule()
        for (index, node) in parts(&reader, "from", in: fields, of: "sources").enumerated() {
            rule.from.append(source(&reader, node, path: "\(path).from[\(index)]", namespace: namespace))
        }
        for (index, node) in parts(&reader, "to", in: fields, of: "operations").enumerated() {
            rule.to.append(operation(&reader, node, path: "\(path).to[\(index)]"))
        }
        for (index, node) in parts(&reader, "when", in: fields, of: "conditions").enumerated() {
            let condition = condition(&reader, node, path: "\(path).when[\(index)]", namespace: namespace)
            if let condition { rule.when.append(condition) }
        }
        return rule
    }

    /// A list that, once written, needs an entry.
    private static func parts(
        _ reader: inout FieldReader, _ key: String, in fields: FieldReader.Fields, of what: String
    ) -> [YAMLNode] {
        guard fields.values[key] != nil else { return [] }
        return reader.list(key, in: fields, isRequired: true, of: what)
    }

    private static func source(
        _ reader: inout FieldReader, _ node: YAMLNode, path: String, namespace: String
    ) -> AuthorizationPolicyResource.Source {
        let outer = reader.fields(node, path: path, tablePath: "spec.rules[].from[]")
        let fields = reader.section("source", in: outer)
        var source = AuthorizationPolicyResource.Source()
        source.principals = reader.match("principals", "notPrincipals", in: fields) { $0.principal($1, path: $2) }
        source.namespaces = reader.match("namespaces", "notNamespaces", in: fields) { $0.namespace($1, path: $2) }
        source.serviceAccounts = reader.match("serviceAccounts", "notServiceAccounts", in: fields) {
            $0.account($1, path: $2, namespace: namespace)
        }
        source.addresses = reader.match("ipBlocks", "notIpBlocks", in: fields) { $0.block($1, path: $2) }
        requireField(&reader, outer, fields, "source")
        return source
    }

    private static func operation(
        _ reader: inout FieldReader, _ node: YAMLNode, path: String
    ) -> AuthorizationPolicyResource.Operation {
        let outer = reader.fields(node, path: path, tablePath: "spec.rules[].to[]")
        let fields = reader.section("operation", in: outer)
        let ports = reader.match("ports", "notPorts", in: fields) { $0.policyPort($1, path: $2) }
        requireField(&reader, outer, fields, "operation")
        return AuthorizationPolicyResource.Operation(ports: ports)
    }

    /// Nothing in it would match nothing, where most readers expect everything.
    private static func requireField(
        _ reader: inout FieldReader, _ outer: FieldReader.Fields, _ fields: FieldReader.Fields, _ key: String
    ) {
        guard let node = outer.values[key], case .mapping(let entries) = node.content, entries.isEmpty else { return }
        reader.diagnostics.error(
            fields.position, "`\(fields.path)` is empty and would never match, expected at least one field")
    }

    private static func condition(
        _ reader: inout FieldReader, _ node: YAMLNode, path: String, namespace: String
    ) -> AuthorizationPolicyResource.Condition? {
        let fields = reader.fields(node, path: path, tablePath: "spec.rules[].when[]")
        let keys = ResourceField.conditionKeys
        let key = reader.text(
            "key", in: fields, expected: "one of \(keys.joined(separator: ", "))",
            isValid: { keys.contains($0) || isHTTPKey($0) })
        guard let key else { return nil }
        if isHTTPKey(key) {
            reader.diagnostics.error(
                reader.positions["\(path).key"] ?? fields.position,
                "condition `\(key)` is refused: \(ResourceField.httpRefusal)")
            return nil
        }
        if fields.values["values"] == nil && fields.values["notValues"] == nil {
            reader.diagnostics.error(
                fields.position, "`\(path)` has neither `values` nor `notValues`, expected at least one of them")
        }
        func match<Value>(
            _ value: (inout FieldReader, YAMLNode, String) -> Value?
        ) -> PolicyMatch<Value> { reader.match("values", "notValues", in: fields, value) }
        switch key {
        case "source.ip": return .sourceAddress(match { $0.block($1, path: $2) })
        case "source.namespace": return .sourceNamespace(match { $0.namespace($1, path: $2) })
        case "source.principal": return .sourcePrincipal(match { $0.principal($1, path: $2) })
        case "source.serviceAccount":
            return .sourceServiceAccount(match { $0.account($1, path: $2, namespace: namespace) })
        case "destination.ip": return .destinationAddress(match { $0.block($1, path: $2) })
        default: return .destinationPort(match { $0.policyPort($1, path: $2) })
        }
    }

    private static func isHTTPKey(_ key: String) -> Bool {
        key.hasPrefix("request.") || key == "remote.ip" || key == "connection.sni" || key.hasPrefix("experimental.")
    }

    private static func mode(_ reader: inout FieldReader, _ fields: FieldReader.Fields) -> InboundSetting {
        let modes: [(String, InboundSetting)] = [("STRICT", .strict), ("PERMISSIVE", .permissive), ("UNSET", .unset)]
        return reader.choice(
            "mode", in: fields, modes, standard: .unset,
            refusals: [
                "DISABLE": "nothing inside the mesh goes in plaintext; to let outsiders in, write PERMISSIVE"
            ]) ?? .strict
    }

    private static func portModes(
        _ reader: inout FieldReader, _ spec: FieldReader.Fields
    ) -> [UInt16: InboundSetting] {
        var modes: [UInt16: InboundSetting] = [:]
        guard let node = spec.values["portLevelMtls"] else { return modes }
        guard case .mapping(let entries) = node.content else {
            reader.diagnostics.error(
                node.position, "`spec.portLevelMtls` is \(node.kindName), expected a mapping of ports")
            return modes
        }
        for entry in entries {
            guard let number = NameRules.decimal(entry.key), let port = UInt16(exactly: number), port > 0 else {
                reader.diagnostics.error(
                    entry.keyPosition,
                    "key `\(entry.key)` in `spec.portLevelMtls`, expected a port from 1 to 65535")
                continue
            }
            let path = "spec.portLevelMtls.\(port)"
            let fields = reader.fields(entry.value, path: path, tablePath: "spec.portLevelMtls.PORT")
            modes[port] = mode(&reader, fields)
        }
        return modes
    }

    private static func entry(
        _ reader: inout FieldReader, _ node: YAMLNode, path: String
    ) -> EgressPolicyResource.Entry? {
        let fields = reader.fields(node, path: path, tablePath: "spec.allow[]")
        let ports: [UInt16] =
            fields.values["ports"] == nil
            ? [] : reader.match("ports", nil, in: fields) { $0.policyPort($1, path: $2) }.values
        switch (fields.values["cidr"], fields.values["name"]) {
        case (let cidr?, nil):
            return reader.block(cidr, path: "\(path).cidr").map { .init(.addresses($0), ports: ports) }
        case (nil, _?):
            let name = reader.text(
                "name", in: fields, expected: "a DNS name, `*.` in front for names below it", isValid: isHostName)
            return name.map { .init(.name($0.lowercased()), ports: ports) }
        case (_?, _?), (nil, nil):
            reader.diagnostics.error(
                fields.position, "`\(path)` needs one of `cidr` and `name`, expected exactly one")
            return nil
        }
    }

    private static func isHostName(_ text: String) -> Bool {
        let name = text.hasPrefix("*.") ? text.dropFirst(2) : text[...]
        let labels = name.split(separator: ".", omittingEmptySubsequences: false)
        return text.utf8.count <= NameRules.lengthMax && IPAddress(parsing: name) == nil
            && labels.allSatisfy { label in
                (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
                    && label.utf8.allSatisfy { byte in
                        Principal.isPathSegment(String(UnicodeScalar(byte))) && byte != UInt8(ascii: ".")
                    }
            }
    }
}
