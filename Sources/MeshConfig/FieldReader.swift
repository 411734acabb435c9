import MeshModel

/// Takes the fields of one resource document out of its tree and notes every problem with its place.
struct FieldReader {
    let kind: String
    var diagnostics: Diagnostics
    var positions: [String: SourcePosition] = [:]

    init(kind: String, diagnostics: Diagnostics) {
        self.kind = kind
        self.diagnostics = diagnostics
    }

    /// A mapping and where it stands: `path` is "" for the document, else "spec", "spec.ports[2]".
    struct Fields {
        var path: String
        var position: SourcePosition
        var values: [String: YAMLNode] = [:]

        func path(of key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }
    }

    /// Checks the keys against the table. `tablePath` is `path` without indices.
    mutating func fields(_ node: YAMLNode, path: String, tablePath: String) -> Fields {
        var fields = Fields(path: path, position: node.position)
        let name = path.isEmpty ? "the document" : "`\(path)`"
        guard case .mapping(let entries) = node.content else {
            diagnostics.error(node.position, "\(node.kindName) in place of \(name), expected a mapping")
            return fields
        }
        let known = ResourceField.keys(ofKind: kind, under: tablePath.isEmpty ? "" : tablePath + ".")
        for entry in entries {
            guard known.contains(entry.key) else {
                if let refusal = ResourceField.refusal(ofKind: kind, under: tablePath, key: entry.key) {
                    diagnostics.error(
                        entry.keyPosition, "`\(entry.key)` in \(name) of \(kindWithArticle) is refused: \(refusal)")
                    continue
                }
                diagnostics.error(
                    entry.keyPosition,
                    "unknown key `\(entry.key)` in \(name) of \(kindWithArticle), expected one of "
                        + known.joined(separator: ", ") + Suggestion.clause(for: entry.key, among: known))
                continue
            }
            fields.values[entry.key] = entry.value
            positions[fields.path(of: entry.key)] = entry.value.position
        }
        return fields
    }

    /// The mapping under `key`; an empty one, reported, where it is required and missing.
    mutating func section(_ key: String, in parent: Fields, isRequired: Bool = true) -> Fields {
        let path = parent.path(of: key)
        guard let node = parent.values[key] else {
            if isRequired { diagnostics.error(parent.position, "`\(path)` is missing, expected a mapping") }
            return Fields(path: path, position: parent.position)
        }
        return fields(node, path: path, tablePath: Self.tablePath(path))
    }

    /// A text that `isValid`; nil and reported else. Without `standard` it is required.
    mutating func text(
        _ key: String, in parent: Fields, standard: String? = nil, expected: String = NameRules.expectation,
        isValid: (String) -> Bool = NameRules.isName
    ) -> String? {
        let path = parent.path(of: key)
        guard let node = parent.values[key] else {
            if let standard { return standard }
            diagnostics.error(parent.position, "`\(path)` is missing, expected \(expected)")
            return nil
        }
        guard let text = text(of: node, path: path, expected: expected) else { return nil }
        guard isValid(text) else {
            diagnostics.error(node.position, "`\(path)` is \(node.kindName), expected \(expected)")
            return nil
        }
        return text
    }

    mutating func list(_ key: String, in parent: Fields, isRequired: Bool = false, of what: String) -> [YAMLNode] {
        let path = parent.path(of: key)
        guard let node = parent.values[key] else {
            if isRequired { diagnostics.error(parent.position, "`\(path)` is missing, expected a list of \(what)") }
            return []
        }
        guard case .sequence(let elements) = node.content else {
            diagnostics.error(node.position, "`\(path)` is \(node.kindName), expected a list of \(what)")
            return []
        }
        if isRequired && elements.isEmpty {
            diagnostics.error(node.position, "`\(path)` is empty, expected at least one of \(what)")
        }
        guard elements.count <= Self.listMax else {
            diagnostics.error(node.position, "`\(path)` has \(elements.count) values, expected at most \(Self.listMax)")
            return []
        }
        return elements
    }

    /// Addresses of hosts: no loopback, link-local, multicast and unspecified ones, none twice.
    mutating func addresses(_ key: String, in parent: Fields, isRequired: Bool = false) -> [IPAddress] {
        let expected = "an IPv4 or IPv6 address of a host"
        var addresses: [IPAddress] = []
        for (index, node) in list(key, in: parent, isRequired: isRequired, of: "addresses").enumerated() {
            let path = "\(parent.path(of: key))[\(index)]"
            positions[path] = node.position
            guard let text = text(of: node, path: path, expected: expected) else { continue }
            guard let address = IPAddress(parsing: text) else {
                diagnostics.error(node.position, "`\(path)` is \(node.kindName), expected \(expected)")
                continue
            }
            if let scope = Self.unusableScope(address) {
                diagnostics.error(node.position, "`\(path)` is the \(scope) address \(address), expected \(expected)")
            } else if addresses.contains(address) {
                diagnostics.error(node.position, "`\(path)` is \(address) again, expected each address once")
            } else {
                addresses.append(address)
            }
        }
        return addresses
    }

    mutating func port(_ node: YAMLNode, path: String) -> UInt16? {
        if case .scalar(let text, isPlain: true) = node.content, let number = NameRules.decimal(text),
            let port = UInt16(exactly: number), port > 0
        {
            return port
        }
        diagnostics.error(node.position, "`\(path)` is \(node.kindName), expected a port from 1 to 65535")
        return nil
    }

    mutating func labels(_ key: String, in parent: Fields, isRequired: Bool = false) -> [String: String] {
        let path = parent.path(of: key)
        guard let node = parent.values[key] else {
            if isRequired { diagnostics.error(parent.position, "`\(path)` is missing, expected a mapping of texts") }
            return [:]
        }
        guard case .mapping(let entries) = node.content else {
            diagnostics.error(node.position, "`\(path)` is \(node.kindName), expected a mapping of texts")
            return [:]
        }
        if isRequired && entries.isEmpty {
            diagnostics.error(node.position, "`\(path)` is empty, expected at least one label")
        }
        if entries.count > Self.labelsMax {
            diagnostics.error(
                node.position, "`\(path)` has \(entries.count) labels, expected at most \(Self.labelsMax)")
        }
        var labels: [String: String] = [:]
        for entry in entries.prefix(Self.labelsMax) {
            if !Self.isLabelText(entry.key) || entry.key.isEmpty {
                diagnostics.error(
                    entry.keyPosition, "label `\(entry.key)` in `\(path)`, expected \(Self.labelExpectation)")
            }
            let valuePath = "\(path).\(entry.key)"
            if let value = text(of: entry.value, path: valuePath, expected: Self.labelExpectation) {
                if !Self.isLabelText(value) {
                    diagnostics.error(
                        entry.value.position, "`\(valuePath)` is no label, expected \(Self.labelExpectation)")
                }
                labels[entry.key] = value
            }
        }
        return labels
    }

    /// The text of a scalar; numbers, truth values and nothing are no texts unless they stand in quotes.
    mutating func text(of node: YAMLNode, path: String, expected: String) -> String? {
        guard case .scalar(let text, let isPlain) = node.content else {
            diagnostics.error(node.position, "`\(path)` is \(node.kindName), expected \(expected)")
            return nil
        }
        if isPlain && !PlainScalar(text).isText {
            let hint = text.isEmpty ? "" : " (write \"\(text)\" if it is meant as a text)"
            diagnostics.error(node.position, "`\(path)` is \(node.kindName), expected \(expected)\(hint)")
            return nil
        }
        return text
    }

    // MARK: private

    private var kindWithArticle: String {
        kind.first.map("AEIOU".contains) == true ? "an \(kind)" : "a \(kind)"
    }

    /// Without the indices of lists.
    private static func tablePath(_ path: String) -> String {
        var isIndex = false
        return path.filter { character in
            if character == "[" { isIndex = true }
            if character == "]" { isIndex = false }
            return !isIndex || character == "["
        }
    }

    private static let listMax = 256
    private static let labelsMax = 64
    private static let labelExpectation = "a text of printable ASCII characters, at most \(NameRules.lengthMax)"

    private static func isLabelText(_ text: String) -> Bool {
        text.utf8.count <= NameRules.lengthMax && text.utf8.allSatisfy { (0x20...0x7e).contains($0) }
    }

    private static func unusableScope(_ address: IPAddress) -> String? {
        if address.isUnspecified { return "unspecified" }
        if address.isLoopback { return "loopback" }
        if address.isLinkLocal { return "link-local" }
        if address.isMulticast || address == IPAddress(ipv4: .max) { return "multicast" }
        return nil
    }
}
