/// Fills a configuration from a document, by the table of options.
struct ConfigurationReader {
    var configuration: Configuration
    var diagnostics: Diagnostics
    private var seen: Set<String> = []

    init(configuration: Configuration, diagnostics: Diagnostics) {
        self.configuration = configuration
        self.diagnostics = diagnostics
    }

    mutating func read(_ document: YAMLNode?, file: String) {
        if let document { section(document, prefix: "") }
        for option in ConfigurationOption.all where !seen.contains(option.path) {
            guard case .required = option.standard else { continue }
            diagnostics.error(
                document?.position ?? SourcePosition(file: file),
                "`\(option.path)` is missing, expected \(option.kind.expectation)")
        }
    }

    // MARK: private

    private mutating func section(_ node: YAMLNode, prefix: String) {
        let name = prefix.isEmpty ? "the file" : "section `\(prefix.dropLast())`"
        guard case .mapping(let entries) = node.content else {
            diagnostics.error(node.position, "\(node.kindName) in place of \(name), expected a mapping")
            return
        }
        for entry in entries {
            let path = prefix + entry.key
            if let option = ConfigurationOption.all.first(where: { $0.path == path }) {
                seen.insert(path)
                value(entry.value, option)
            } else if ConfigurationOption.all.contains(where: { $0.path.hasPrefix(path + ".") }) {
                section(entry.value, prefix: path + ".")
            } else {
                let known = Self.keys(prefix)
                diagnostics.error(
                    entry.keyPosition,
                    "unknown key `\(entry.key)` in \(name), expected one of \(known.joined(separator: ", "))"
                        + Suggestion.clause(for: entry.key, among: known))
            }
        }
    }

    private mutating func value(_ node: YAMLNode, _ option: ConfigurationOption) {
        let expected = "expected \(option.kind.expectation)"
        guard case .scalar(let text, let isPlain) = node.content else {
            diagnostics.error(node.position, "`\(option.path)` is \(node.kindName), \(expected)")
            return
        }
        // A number is a number only without quotes, and a text must not look like a number then.
        let hasType = option.kind.takesNumber ? isPlain : !isPlain || PlainScalar(text).isText
        guard hasType, let value = option.kind.value(of: text) else {
            var clause = ""
            if case .choice(let choices) = option.kind { clause = Suggestion.clause(for: text, among: choices) }
            diagnostics.error(node.position, "`\(option.path)` is \(node.kindName), \(expected)\(clause)")
            return
        }
        option.set(&configuration, value)
    }

    /// Keys that may stand in the section, in the order of the table.
    private static func keys(_ prefix: String) -> [String] {
        var keys: [String] = []
        for option in ConfigurationOption.all where option.path.hasPrefix(prefix) {
            let key = String(option.path.dropFirst(prefix.count).prefix { $0 != "." })
            if keys.last != key { keys.append(key) }
        }
        return keys
    }
}

extension PlainScalar {
    var isText: Bool {
        if case .text = self { return true }
        return false
    }
}
