/// A value of a YAML document with its place in the file. Anchors are resolved, tags are not supported.
struct YAMLNode: Sendable {
    struct Entry: Sendable {
        var key: String
        var keyPosition: SourcePosition
        var value: YAMLNode
    }

    enum Content: Sendable {
        /// `isPlain`: without quotes, so that it may mean a number, a truth value or nothing.
        case scalar(String, isPlain: Bool)
        case sequence([YAMLNode])
        /// In the order of the file; keys are distinct.
        case mapping([Entry])
    }

    var content: Content
    var position: SourcePosition
    /// Nodes in this tree, itself included: what an alias to it costs.
    var size = 1

    /// How messages name what was found.
    var kindName: String {
        switch content {
        case .sequence: "a list"
        case .mapping: "a mapping"
        case .scalar(let text, let isPlain):
            switch isPlain ? PlainScalar(text) : .text {
            case .nothing: "nothing"
            case .truth: "the truth value \(text)"
            case .number: "the number \(text)"
            case .text: "the text \"\(text.prefix(60))\""
            }
        }
    }
}

/// What a scalar without quotes means (YAML 1.2 core schema).
enum PlainScalar {
    case nothing
    case truth(Bool)
    case number
    case text

    init(_ text: String) {
        switch text {
        case "", "~", "null", "Null", "NULL": self = .nothing
        case "true", "True", "TRUE": self = .truth(true)
        case "false", "False", "FALSE": self = .truth(false)
        default: self = Self.isNumber(text) ? .number : .text
        }
    }

    private static func isNumber(_ text: String) -> Bool {
        guard let first = text.utf8.first, first < 0x80 else { return false }
        let body = text.hasPrefix("-") || text.hasPrefix("+") ? text.dropFirst() : text[...]
        if [".inf", ".Inf", ".INF", ".nan", ".NaN", ".NAN"].contains(String(body)) { return true }
        if body.hasPrefix("0x") || body.hasPrefix("0o") { return UInt64(body.dropFirst(2), radix: 16) != nil }
        guard let start = body.utf8.first,
            start == UInt8(ascii: ".") || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(start)
        else { return false }
        return Double(body) != nil
    }
}

/// Bounds on what a file may make this program do.
package struct YAMLLimits: Sendable {
    /// Of one file.
    package var bytesMax = 16 << 20
    package var depthMax = 24
    /// Of one file, aliases counted as often as they are used.
    package var nodesMax = 1_000_000
    package var documentsMax = 50_000

    package init() {}
}
