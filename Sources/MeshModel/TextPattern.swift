/// What a policy compares a name with: literal text, unless it is written with one `*` at its beginning or its end.
/// No other character means anything but itself.
package enum TextPattern: Hashable, Sendable, CustomStringConvertible {
    case exact(String)
    case prefix(String)
    case suffix(String)
    /// `*`: whatever it is, as long as there is one.
    case any

    /// Nil where a `*` stands elsewhere, or for an empty text.
    package init?(parsing text: String) {
        let stars = text.utf8.count { $0 == UInt8(ascii: "*") }
        if text == "*" {
            self = .any
        } else if stars == 0 && !text.isEmpty {
            self = .exact(text)
        } else if stars == 1 && text.hasSuffix("*") {
            self = .prefix(String(text.dropLast()))
        } else if stars == 1 && text.hasPrefix("*") {
            self = .suffix(String(text.dropFirst()))
        } else {
            return nil
        }
    }

    package var description: String {
        switch self {
        case .exact(let text): text
        case .prefix(let text): text + "*"
        case .suffix(let text): "*" + text
        case .any: "*"
        }
    }

    /// For checks and explanations; decisions compare the snapshot's bytes.
    package func matches(_ text: String) -> Bool {
        switch self {
        case .exact(let own): own.utf8.elementsEqual(text.utf8)
        case .prefix(let own): text.utf8.starts(with: own.utf8)
        case .suffix(let own): text.utf8.reversed().starts(with: own.utf8.reversed())
        case .any: true
        }
    }
}
