/// Lines with columns of equal width. Widths only grow, so that tables that are written bit by bit stay aligned.
package struct TextTable: Sendable {
    package struct Column: Sendable {
        package var title: String
        package var isRight: Bool
        package init(_ title: String, isRight: Bool = false) {
            self.title = title
            self.isRight = isRight
        }
    }

    private let columns: [Column]
    private var widths: [Int]

    package init(_ columns: [Column]) {
        self.columns = columns
        widths = columns.map(\.title.count)
    }

    /// Column titles in capitals; numbers to the right.
    package init(_ titles: [String], right: Set<String> = []) {
        self.init(titles.map { Column($0, isRight: right.contains($0)) })
    }

    /// The lines of `rows`, each with a newline, under a line of titles if `hasTitles`.
    package mutating func text(_ rows: [[String]], hasTitles: Bool = true) -> String {
        let cells = rows.map { row in row.map { $0.isEmpty ? "-" : Self.printable($0) } }
        for row in cells {
            for (index, cell) in row.enumerated() where index < widths.count {
                widths[index] = max(widths[index], cell.count)
            }
        }
        let lines = (hasTitles ? [columns.map(\.title)] : []) + cells
        return lines.map { line($0) + "\n" }.joined()
    }

    /// What others named must not command the terminal: control characters become `?`.
    package static func printable(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: isControl) else { return text }
        return String(String.UnicodeScalarView(text.unicodeScalars.map { isControl($0) ? "?" : $0 }))
    }

    // MARK: private

    private static func isControl(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value < 0x20 || (0x7f..<0xa0).contains(scalar.value) || scalar.properties.generalCategory == .format
    }

    private func line(_ cells: [String]) -> String {
        var text = ""
        for (index, cell) in cells.enumerated() where index < widths.count {
            let space = String(repeating: " ", count: widths[index] - cell.count)
            if index > 0 { text += "  " }
            if columns[index].isRight {
                text += space + cell
            } else if index == widths.count - 1 {
                text += cell
            } else {
                text += cell + space
            }
        }
        return text
    }
}
