import Telemetry

/// Draws a `TopModel` as lines of text for a terminal of some size. Pure: the same model gives the same picture.
package struct TopView: Sendable {
    package enum Style: Sendable {
        case plain, title, dim, alarm, notice
    }

    package struct Line: Equatable, Sendable {
        package var text: String
        package var style: Style
    }

    private let columns: Int
    private let rows: Int
    private let hasColour: Bool

    package init(columns: Int, rows: Int, hasColour: Bool) {
        self.columns = max(columns, 20)
        self.rows = max(rows, 5)
        self.hasColour = hasColour
    }

    /// As many lines as the terminal has, none longer than it is wide.
    package func lines(_ model: TopModel) -> [Line] {
        var lines = [Line(text: summary(model), style: .plain), settings(model)]
        if model.mode == .help {
            lines += Self.help.map { Line(text: $0, style: .plain) }
        } else {
            lines += table(model)
        }
        lines = lines.prefix(rows - 1).map { Line(text: fit($0.text, columns), style: $0.style) }
        lines += Array(repeating: Line(text: "", style: .plain), count: rows - 1 - lines.count)
        return lines + [Line(text: fit(footer(model), columns), style: .dim)]
    }

    /// The bytes that put the picture on the screen, each line over what was there before.
    package func screen(_ model: TopModel) -> String {
        var text = "\u{1b}[H"
        for (index, line) in lines(model).enumerated() {
            if index > 0 { text += "\r\n" }
            text += begin(line.style) + line.text + "\u{1b}[0m\u{1b}[K"
        }
        return text + "\u{1b}[J"
    }

    // MARK: private

    /// No line longer than a terminal of 80 columns.
    static let help = [
        "", "  left right < >   sort by the previous or next column", "  r                reverse the order",
        "  /                filter: words that must all hold; field=text; ! denies",
        "  Esc              no filter", "  f w s n          group by flow, workload, service or node; g: the next one",
        "  p space          pause and go on", "  c                show or hide flows that have ended",
        "  up down j k      scroll; page up and page down by ten", "  q                quit", "",
        "  OUT/S and SENT are the client's bytes, IN/S and RECV the server's",
        "  ~ approximate: after a reset nobody knows what arrived",
        "  RTT and RETR marked * are those of the tunnel, which its flows share",
        "  plain: a connection outside the mesh, as it was", "", "  any key goes back",
    ]

    private func summary(_ model: TopModel) -> String {
        let open = model.flows.count { $0.state == .open }
        let denied = model.flows.count { $0.verdict == .denied }
        let all = model.rows
        // A local flow is in two groups: rates are summed over flows only.
        let rate =
            model.grouping == .workload
            ? ""
            : "   out \(Figures.rate(all.reduce(0) { $0 + $1.sentPerSecond }))"
                + " in \(Figures.rate(all.reduce(0) { $0 + $1.receivedPerSecond }))"
        return "node \(TextTable.printable(model.node))   \(model.flows.count) flows, \(open) open, \(denied) denied"
            + "   lost \(model.lost)\(rate)"
    }

    private func settings(_ model: TopModel) -> Line {
        if !model.trouble.isEmpty { return Line(text: TextTable.printable(model.trouble), style: .alarm) }
        if case .filtering(let text) = model.mode { return Line(text: "filter: \(text)_", style: .notice) }
        var text = "group \(model.grouping.rawValue)   sort \(model.sort.title) \(model.isAscending ? "up" : "down")"
        if !model.filterText.isEmpty { text += "   filter \(model.filterText)" }
        if !model.showsEnded { text += "   open only" }
        if model.isPaused { text += "   PAUSED" }
        return Line(text: text, style: model.isPaused ? .notice : .plain)
    }

    private func footer(_ model: TopModel) -> String {
        if case .filtering = model.mode { return "Enter takes the filter, Esc leaves it as it was" }
        return "q quit  <> sort  r reverse  / filter  g group  p pause  c ended  ? help"
    }

    private func table(_ model: TopModel) -> [Line] {
        let layout = layout(TopColumn.columns(model.grouping))
        let all = model.rows
        let room = rows - 4
        let first = min(model.scroll, max(0, all.count - room))
        let titles = layout.map { column, width in
            cell(column == model.sort ? Self.marked(column, model.isAscending) : column.title, column, width)
        }
        return [Line(text: titles.joined(separator: " "), style: .title)]
            + all[first..<min(all.count, first + room)].map { row in
                Line(
                    text: layout.map { cell(TextTable.printable($0.text(row)), $0, $1) }.joined(separator: " "),
                    style: style(row))
            }
    }

    private static func marked(_ column: TopColumn, _ isAscending: Bool) -> String {
        (isAscending ? "^" : "v") + column.title
    }

    private func style(_ row: TopRow) -> Style {
        if row.denied > 0 { return .alarm }
        if row.open == 0 { return .dim }
        return row.state == "plain" ? .notice : .plain
    }

    /// As many columns as fit, in order; what is left over goes to the names.
    private func layout(_ wanted: [TopColumn]) -> [(column: TopColumn, width: Int)] {
        var chosen: [(column: TopColumn, width: Int)] = []
        var used = 0
        for column in wanted {
            let needed = column.width + (chosen.isEmpty ? 0 : 1)
            guard used + needed <= columns else { break }
            chosen.append((column, column.width))
            used += needed
        }
        let flexible = chosen.indices.filter { chosen[$0].column.isFlexible }
        for (order, index) in flexible.enumerated() {
            let share = (columns - used) / flexible.count
            chosen[index].width += order == 0 ? columns - used - share * (flexible.count - 1) : share
        }
        return chosen
    }

    private func cell(_ text: String, _ column: TopColumn, _ width: Int) -> String {
        let shown = fit(text, width)
        let space = String(repeating: " ", count: width - shown.count)
        return column.isText ? shown + space : space + shown
    }

    /// The end of a name tells more than its beginning, but people read from the left: cut on the right.
    private func fit(_ text: String, _ width: Int) -> String {
        text.count <= width ? text : String(text.prefix(max(width - 1, 0))) + "+"
    }

    private func begin(_ style: Style) -> String {
        switch style {
        case .plain: ""
        case .title: "\u{1b}[7m"
        case .dim: hasColour ? "\u{1b}[2m" : ""
        case .alarm: hasColour ? "\u{1b}[31m" : ""
        case .notice: hasColour ? "\u{1b}[33m" : ""
        }
    }
}
