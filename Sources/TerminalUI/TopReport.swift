import Telemetry

/// One picture of `top` for scripts and files.
package enum TopReport {
    package static func table(_ model: TopModel, limit: Int = .max) -> String {
        let columns = TopColumn.columns(model.grouping)
        var table = TextTable(columns.map { TextTable.Column($0.title, isRight: !$0.isText) })
        return table.text(model.rows.prefix(limit).map { row in columns.map { $0.text(row) } })
    }

    /// Exact figures, names in the first line (RFC 4180).
    package static func csv(_ model: TopModel, limit: Int = .max) -> String {
        let columns = TopColumn.columns(model.grouping)
        let lines =
            [columns.map { name(of: $0) }]
            + model.rows.prefix(limit).map { row in
                columns.map { $0.isText ? $0.text(row) : number($0.number(row)) }
            }
        return lines.map { $0.map(quoted).joined(separator: ",") + "\n" }.joined()
    }

    /// One object: node, lost events, and the rows with exact figures.
    package static func json(_ model: TopModel, limit: Int = .max) -> [UInt8] {
        let columns = TopColumn.columns(model.grouping)
        var json = JSONWriter()
        json.object { json in
            json.member("node", model.node)
            json.member("lost", model.lost)
            json.member("group", model.grouping.rawValue)
            json.key("rows")
            json.array(model.rows.prefix(limit)) { json, row in
                json.object { json in
                    for column in columns {
                        json.key(name(of: column))
                        if column.isText {
                            json.string(column.text(row))
                        } else {
                            json.integer(Figures.whole(column.number(row)))
                        }
                    }
                }
            }
        }
        return json.bytes + [0x0a]
    }

    /// With its unit.
    package static func name(of column: TopColumn) -> String {
        switch column {
        case .sentRate: "sent_bytes_per_second"
        case .receivedRate: "received_bytes_per_second"
        case .sent: "bytes_sent"
        case .received: "bytes_received"
        case .rtt: "rtt_us"
        case .age: "age_ms"
        default: column.rawValue
        }
    }

    // MARK: private

    private static func number(_ value: Double) -> String { "\(Figures.whole(value))" }

    private static func quoted(_ text: String) -> String {
        let needsQuotes = text.contains { $0 == "," || $0 == "\"" || $0.isNewline }
        return needsQuotes
            ? "\""
                + text.split(separator: "\"", omittingEmptySubsequences: false)
                .joined(separator: "\"\"") + "\"" : text
    }
}
