import MeshModel

/// Makes resources from documents; what is wrong inside one document is found here.
struct ResourceReader {
    private(set) var declared = DeclaredResources()
    var diagnostics: Diagnostics

    init(diagnostics: Diagnostics) { self.diagnostics = diagnostics }

    mutating func read(_ document: YAMLNode) {
        guard let kind = kind(of: document) else { return }
        var reader = FieldReader(kind: kind, diagnostics: diagnostics)
        let errorsBefore = diagnostics.errorCount
        let root = reader.fields(document, path: "", tablePath: "")
        let metadata = reader.section("metadata", in: root)
        let spec = reader.section("spec", in: root)
        func finish<Resource>(_ resource: Resource?) -> Declared<Resource>? {
            guard let resource, reader.diagnostics.errorCount == errorsBefore else { return nil }
            return Declared(resource, position: document.position, positions: reader.positions)
        }
        switch kind {
        case "Node":
            if let node = finish(Self.node(&reader, metadata, spec)) { declared.nodes.append(node) }
        case "Workload":
            if let workload = finish(Self.workload(&reader, metadata, spec)) { declared.workloads.append(workload) }
        case "Service":
            if let service = finish(Self.service(&reader, metadata, spec)) { declared.services.append(service) }
        case "AuthorizationPolicy":
            let policy = finish(Self.authorizationPolicy(&reader, root, metadata, spec))
            if let policy { declared.authorizationPolicies.append(policy) }
        case "PeerAuthentication":
            let policy = finish(Self.peerAuthentication(&reader, root, metadata, spec))
            if let policy { declared.peerAuthentications.append(policy) }
        default:
            let policy = finish(Self.egressPolicy(&reader, metadata, spec))
            if let policy { declared.egressPolicies.append(policy) }
        }
        diagnostics = reader.diagnostics
    }

    // MARK: private

    private mutating func kind(of document: YAMLNode) -> String? {
        let expected = "expected one of \(ResourceField.kinds.joined(separator: ", "))"
        guard case .mapping(let entries) = document.content else {
            // A file that ends in `---`, or that holds comments only, has an empty document.
            if case .scalar("", isPlain: true) = document.content { return nil }
            diagnostics.error(document.position, "\(document.kindName) in place of a resource, expected a mapping")
            return nil
        }
        guard let entry = entries.first(where: { $0.key == "kind" }) else {
            diagnostics.error(document.position, "`kind` is missing, \(expected)")
            return nil
        }
        guard case .scalar(let kind, _) = entry.value.content, ResourceField.kinds.contains(kind) else {
            var clause = ""
            if case .scalar(let kind, _) = entry.value.content {
                clause = Suggestion.clause(for: kind, among: ResourceField.kinds)
            }
            diagnostics.error(entry.value.position, "`kind` is \(entry.value.kindName), \(expected)\(clause)")
            return nil
        }
        return kind
    }

    private static func node(
        _ reader: inout FieldReader, _ metadata: FieldReader.Fields, _ spec: FieldReader.Fields
    ) -> NodeResource? {
        let name = reader.text("name", in: metadata)
        let addresses = reader.addresses("tunnelAddresses", in: spec, isRequired: true)
        return name.map { NodeResource(name: $0, tunnelAddresses: addresses) }
    }

    private static func workload(
        _ reader: inout FieldReader, _ metadata: FieldReader.Fields, _ spec: FieldReader.Fields
    ) -> WorkloadResource? {
        let name = reader.text("name", in: metadata)
        let namespace = reader.text("namespace", in: metadata, standard: "default")
        let labels = reader.labels("labels", in: metadata)
        let account = reader.text("serviceAccount", in: spec, standard: "default")
        let node = reader.text("node", in: spec)
        let selector = selector(&reader, spec)
        let addresses = reader.addresses("addresses", in: spec)
        for isIPv4 in [true, false] where addresses.count(where: { $0.isIPv4 == isIPv4 }) > 1 {
            reader.diagnostics.error(
                reader.positions["spec.addresses"] ?? spec.position,
                "`spec.addresses` has several \(isIPv4 ? "IPv4" : "IPv6") addresses, expected at most one")
        }
        let ports = ports(&reader, spec)
        let network = reader.text(
            "network", in: spec, standard: "", expected: "\(NameRules.expectation), or \"\"",
            isValid: { $0.isEmpty || NameRules.isName($0) })
        guard let name, let namespace, let account, let node, let selector, let network else { return nil }
        return WorkloadResource(
            name: name, namespace: namespace, serviceAccount: account, node: node, selector: selector,
            addresses: addresses, ports: ports, network: network, labels: labels)
    }

    private static func selector(_ reader: inout FieldReader, _ spec: FieldReader.Fields) -> WorkloadSelector? {
        guard spec.values["selector"] != nil else {
            reader.diagnostics.error(
                spec.position, "`spec.selector` is missing, expected a mapping with `cgroup` or `systemdUnit`")
            return nil
        }
        let selector = reader.section("selector", in: spec)
        var networkNamespace: String?
        if selector.values["networkNamespace"] != nil {
            networkNamespace = reader.text("networkNamespace", in: selector)
        }
        switch (selector.values["cgroup"], selector.values["systemdUnit"]) {
        case (_?, nil):
            let pattern = reader.text(
                "cgroup", in: selector,
                expected: "a path without `//`, `.`, `..` and `/` at its end, at most "
                    + "\(WorkloadSelector.patternLengthMax) bytes, `*` for any part of one component",
                isValid: isPattern)
            return pattern.map { WorkloadSelector(.cgroup(pattern: $0), networkNamespace: networkNamespace) }
        case (nil, _?):
            let unit = reader.text(
                "systemdUnit", in: selector, expected: "a unit's name with its suffix, as `nginx.service`",
                isValid: isUnit)
            return unit.map { WorkloadSelector(.systemdUnit($0), networkNamespace: networkNamespace) }
        case (_?, _?), (nil, nil):
            reader.diagnostics.error(
                selector.position, "`spec.selector` needs one of `cgroup` and `systemdUnit`, expected exactly one")
            return nil
        }
    }

    private static func ports(_ reader: inout FieldReader, _ spec: FieldReader.Fields) -> [UInt16] {
        var ports: [UInt16] = []
        for (index, node) in reader.list("ports", in: spec, of: "ports").enumerated() {
            let path = "spec.ports[\(index)]"
            guard let port = reader.port(node, path: path) else { continue }
            if ports.contains(port) {
                reader.diagnostics.error(node.position, "`\(path)` is \(port) again, expected each port once")
            }
            ports.append(port)
        }
        return ports
    }

    private static func service(
        _ reader: inout FieldReader, _ metadata: FieldReader.Fields, _ spec: FieldReader.Fields
    ) -> ServiceResource? {
        let name = reader.text("name", in: metadata)
        let namespace = reader.text("namespace", in: metadata, standard: "default")
        let addresses = reader.addresses("virtualAddresses", in: spec)
        var ports: [ServiceResource.Port] = []
        for (index, node) in reader.list("ports", in: spec, isRequired: true, of: "ports").enumerated() {
            let path = "spec.ports[\(index)]"
            let fields = reader.fields(node, path: path, tablePath: "spec.ports[]")
            guard let portNode = fields.values["port"] else {
                reader.diagnostics.error(node.position, "`\(path).port` is missing, expected a port from 1 to 65535")
                continue
            }
            let port = reader.port(portNode, path: "\(path).port")
            let target = fields.values["targetPort"].map { reader.port($0, path: "\(path).targetPort") } ?? port
            guard let port, let target else { continue }
            if ports.contains(where: { $0.port == port }) {
                reader.diagnostics.error(
                    portNode.position, "`\(path).port` is \(port) again, expected each port once")
            }
            ports.append(ServiceResource.Port(port, targetPort: target))
        }
        let labels = reader.labels("selector", in: spec, isRequired: true)
        guard let name, let namespace else { return nil }
        return ServiceResource(
            name: name, namespace: namespace, virtualAddresses: addresses, ports: ports, selector: labels)
    }

    private static func isPattern(_ text: String) -> Bool {
        let components = text.split(separator: "/", omittingEmptySubsequences: false)
        // The first may be empty: an absolute pattern.
        guard text != "/", (1...WorkloadSelector.patternLengthMax).contains(text.utf8.count),
            text.utf8.allSatisfy({ (0x21...0x7e).contains($0) })
        else { return false }
        return components.enumerated().allSatisfy { index, component in
            component != "." && component != ".." && component != "**" && (!component.isEmpty || index == 0)
        }
    }

    private static func isUnit(_ text: String) -> Bool {
        // systemd.unit(5): at most 255 characters of this set.
        text.utf8.count <= 255 && text.contains(".") && !text.hasPrefix(".") && !text.hasSuffix(".")
            && text.utf8.allSatisfy {
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains($0)
                    || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0)
                    || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || ":-_.\\@".utf8.contains($0)
            }
    }
}
