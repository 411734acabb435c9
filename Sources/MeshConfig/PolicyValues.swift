import MeshModel

// The values that rules of policies are made of.

extension FieldReader {
    /// The values of a field and of its negation.
    mutating func match<Value>(
        _ key: String, _ negated: String?, in parent: Fields,
        _ value: (inout FieldReader, YAMLNode, String) -> Value?
    ) -> PolicyMatch<Value> {
        PolicyMatch(
            values(key, in: parent, value), not: negated.map { values($0, in: parent, value) } ?? [])
    }

    /// One of a few words; `refusals` says why a word that Istio knows is not one of them.
    mutating func choice<Value>(
        _ key: String, in parent: Fields, _ choices: [(word: String, value: Value)], standard: Value? = nil,
        refusals: [String: String] = [:]
    ) -> Value? {
        let path = parent.path(of: key)
        let words = choices.map(\.word)
        let expected = "expected one of \(words.joined(separator: ", "))"
        guard let node = parent.values[key] else {
            if standard == nil { diagnostics.error(parent.position, "`\(path)` is missing, \(expected)") }
            return standard
        }
        guard case .scalar(let text, _) = node.content, let choice = choices.first(where: { $0.word == text }) else {
            var clause = ""
            if case .scalar(let text, _) = node.content {
                clause = refusals[text].map { ": \($0)" } ?? Suggestion.clause(for: text, among: words)
            }
            diagnostics.error(node.position, "`\(path)` is \(node.kindName), \(expected)\(clause)")
            return nil
        }
        return choice.value
    }

    mutating func required(_ key: String, in parent: Fields, expected: String) -> YAMLNode? {
        if let node = parent.values[key] { return node }
        diagnostics.error(parent.position, "`\(parent.path(of: key))` is missing, expected \(expected)")
        return nil
    }

    mutating func principal(_ node: YAMLNode, path: String) -> TextPattern? {
        let expected = "`<trust domain>/ns/<namespace>/sa/<service account>`, or one `*` at its beginning or end"
        return pattern(node, path: path, expected: expected) { text in
            // Both ways of writing it are in use.
            let scheme = "spiffe://"
            let name = text.hasPrefix(scheme) ? String(text.dropFirst(scheme.count)) : text
            guard let pattern = TextPattern(parsing: name) else { return nil }
            switch pattern {
            case .exact(let name): return Principal(parsing: scheme + name) == nil ? nil : pattern
            case .prefix(let part), .suffix(let part):
                return part.split(separator: "/").allSatisfy { Principal.isPathSegment(String($0)) } ? pattern : nil
            case .any: return pattern
            }
        }
    }

    mutating func namespace(_ node: YAMLNode, path: String) -> TextPattern? {
        pattern(node, path: path, expected: "\(NameRules.expectation), with one `*` at its beginning or end at most") {
            guard let pattern = TextPattern(parsing: $0) else { return nil }
            switch pattern {
            case .exact(let part), .prefix(let part), .suffix(let part): return NameRules.isName(part) ? pattern : nil
            case .any: return pattern
            }
        }
    }

    mutating func account(_ node: YAMLNode, path: String, namespace: String) -> ServiceAccountName? {
        pattern(node, path: path, expected: "`<namespace>/<name>` or `<name>` without a `*`") { text in
            let parts = text.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
            guard (1...2).contains(parts.count), parts.allSatisfy(NameRules.isName) else { return nil }
            return ServiceAccountName(namespace: parts.count == 2 ? parts[0] : namespace, name: parts[parts.count - 1])
        }
    }

    mutating func block(_ node: YAMLNode, path: String) -> AddressBlock? {
        pattern(node, path: path, expected: ResourceReader.blockExpectation) { AddressBlock(parsing: $0) }
    }

    /// With quotes, as Istio has it, or without.
    mutating func policyPort(_ node: YAMLNode, path: String) -> UInt16? {
        if case .scalar(let text, _) = node.content, let number = NameRules.decimal(text),
            let port = UInt16(exactly: number), port > 0
        {
            return port
        }
        diagnostics.error(node.position, "`\(path)` is \(node.kindName), expected a port from 1 to 65535")
        return nil
    }

    // MARK: private

    /// A list that, once written, needs an entry; none twice.
    private mutating func values<Value: Hashable>(
        _ key: String, in parent: Fields, _ value: (inout FieldReader, YAMLNode, String) -> Value?
    ) -> [Value] {
        guard parent.values[key] != nil else { return [] }
        var values: [Value] = []
        for (index, node) in list(key, in: parent, isRequired: true, of: "values").enumerated() {
            let path = "\(parent.path(of: key))[\(index)]"
            positions[path] = node.position
            guard let value = value(&self, node, path) else { continue }
            if values.contains(value) {
                diagnostics.error(node.position, "`\(path)` is \(node.kindName) again, expected each value once")
            }
            values.append(value)
        }
        return values
    }

    private mutating func pattern<Value>(
        _ node: YAMLNode, path: String, expected: String, parse: (String) -> Value?
    ) -> Value? {
        guard let text = text(of: node, path: path, expected: expected) else { return nil }
        if let value = parse(text) { return value }
        diagnostics.error(node.position, "`\(path)` is \(node.kindName), expected \(expected)")
        return nil
    }
}
