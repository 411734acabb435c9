// MeshConfig reads configuration and resource files: YAML text into a tree with positions, the tree into values by a
// strict schema, every problem with file, line and column, all at once. It is pure: the caller reads the files.
// meshd, MeshDiscovery and `meshctl config validate` use it. What several resources say about each other is checked
// by MeshDiscovery.

/// A place in a file; lines and columns count from 1.
package struct SourcePosition: Hashable, Sendable, Comparable, CustomStringConvertible {
    package var file: String
    package var line: Int
    package var column: Int

    package init(file: String, line: Int = 1, column: Int = 1) {
        self.file = file
        self.line = line
        self.column = column
    }

    package var description: String { "\(file):\(line):\(column)" }

    package static func < (left: SourcePosition, right: SourcePosition) -> Bool {
        (left.file, left.line, left.column) < (right.file, right.line, right.column)
    }
}

/// A problem in a file, in the form that compilers use.
package struct Diagnostic: Hashable, Sendable, CustomStringConvertible {
    package enum Severity: String, Sendable {
        /// The file can't be used.
        case error
        /// Probably not what was meant.
        case warning
    }

    package var severity: Severity
    package var position: SourcePosition
    package var message: String

    package init(_ severity: Severity, _ position: SourcePosition, _ message: String) {
        self.severity = severity
        self.position = position
        self.message = message
    }

    package var description: String { "\(position): \(severity.rawValue): \(message)" }
}

/// Problems in the order found; beyond a bound they are only counted.
package struct Diagnostics: Sendable {
    package private(set) var list: [Diagnostic] = []
    package private(set) var errorCount = 0
    package private(set) var suppressedCount = 0

    /// A person reads no more than this of one run.
    package static let listMax = 200

    package init() {}

    package var hasErrors: Bool { errorCount > 0 }

    package mutating func error(_ position: SourcePosition, _ message: String) {
        add(Diagnostic(.error, position, message))
    }

    package mutating func warning(_ position: SourcePosition, _ message: String) {
        add(Diagnostic(.warning, position, message))
    }

    package mutating func add(_ diagnostic: Diagnostic) {
        if diagnostic.severity == .error { errorCount += 1 }
        if list.count < Self.listMax { list.append(diagnostic) } else { suppressedCount += 1 }
    }

    package mutating func add(_ other: Diagnostics) {
        for diagnostic in other.list { add(diagnostic) }
        errorCount += other.errorCount - other.list.count { $0.severity == .error }
        suppressedCount += other.suppressedCount
    }

    /// By place, errors and warnings mixed.
    package mutating func sort() {
        list.sort { ($0.position, $0.message) < ($1.position, $1.message) }
    }
}
