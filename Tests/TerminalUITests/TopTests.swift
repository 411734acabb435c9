import Telemetry
import Testing

@testable import TerminalUI

@Suite struct TopTests {
    static func flow(
        _ id: UInt64, sent: UInt64 = 0, source: String = "shop/curl", service: String = "shop/web",
        state: FlowRow.State = .open
    ) -> FlowRow {
        var flow = FlowRow()
        (flow.id, flow.bytesSent, flow.sourceWorkload, flow.service, flow.state) = (id, sent, source, service, state)
        (flow.destinationWorkload, flow.direction, flow.node) = ("shop/nginx", "outbound", "a")
        return flow
    }

    static func model(_ samples: [[FlowRow]]) -> TopModel {
        var model = TopModel()
        for (index, flows) in samples.enumerated() {
            model.take(FlowPage(lost: 3, flows: flows), node: "a", now: UInt64(index + 1) * 2_000_000_000)
        }
        return model
    }

    @Test func ratesAreTheDifferenceOfTwoSamples() {
        let model = Self.model([[Self.flow(1, sent: 100)], [Self.flow(1, sent: 2_100), Self.flow(2, sent: 10)]])
        #expect(model.rows.map(\.sentPerSecond) == [1_000, 5])
    }

    @Test func rowsAreSortedByAnyColumnBothWays() {
        // Each column orders the three in another way than the order in which they came.
        let orders: [TopColumn: [UInt64]] = [
            .source: [3, 1, 2], .destination: [2, 3, 1], .sentRate: [2, 1, 3], .receivedRate: [3, 2, 1],
            .rtt: [1, 3, 2], .retransmits: [2, 3, 1], .age: [3, 1, 2], .state: [3, 1, 2], .sent: [1, 3, 2],
            .received: [2, 1, 3], .process: [3, 2, 1], .service: [2, 1, 3], .reason: [1, 3, 2], .node: [3, 2, 1],
        ]
        func place(_ column: TopColumn, _ id: UInt64) -> Int { orders[column]?.firstIndex(of: id) ?? 0 }
        func flow(_ id: UInt64, seconds: UInt64) -> FlowRow {
            func number(_ column: TopColumn) -> UInt64 { UInt64(place(column, id) + 1) }
            func name(_ column: TopColumn) -> String { ["alpha", "beta", "gamma"][place(column, id)] }
            var flow = Self.flow(id, source: name(.source), service: name(.service))
            flow.destinationWorkload = name(.destination)
            // A base that orders the sums, and a rate that orders the differences.
            flow.bytesSent = number(.sent) * 1_000_000 + number(.sentRate) * seconds * 1_000
            flow.bytesReceived = number(.received) * 1_000_000 + number(.receivedRate) * seconds * 1_000
            (flow.rttMicroseconds, flow.retransmits) = (UInt32(number(.rtt)), UInt32(number(.retransmits)))
            (flow.ageMilliseconds, flow.reason) = (number(.age), name(.reason))
            (flow.command, flow.pid, flow.peerNode) = (name(.process), 7, name(.node))
            flow.state = [.closed, .open, .refused][place(.state, id)]
            return flow
        }
        var model = Self.model([0, 1].map { seconds in (1...3).map { flow($0, seconds: seconds) } })
        let ids = Dictionary(uniqueKeysWithValues: model.flows.map { ($0.sourceWorkload, $0.id) })
        #expect(Set(orders.keys) == Set(TopColumn.columns(.flow)))
        for (column, order) in orders {
            model.sort = column
            for isAscending in [true, false] {
                model.isAscending = isAscending
                let shown = model.rows.map { ids[$0.source] ?? 0 }
                #expect(shown == (isAscending ? order : order.reversed()), "\(column.title), \(isAscending)")
            }
        }
        model.group(by: .workload)
        for (column, order) in [
            (TopColumn.name, ["alpha", "beta", "gamma"]), (.sent, ["beta", "alpha", "gamma"]),
        ] {
            (model.sort, model.isAscending) = (column, true)
            #expect(model.rows.map(\.name) == order, "\(column.title)")
        }
        for column in TopColumn.columns(.workload) {
            model.sort = column
            model.isAscending = true
            let up = model.rows
            model.isAscending = false
            let down = model.rows
            for (rows, holds) in [(up, { $0 <= $1 } as (Double, Double) -> Bool), (down, { $0 >= $1 })] {
                let numbers = rows.map { column.number($0) }
                #expect(zip(numbers, numbers.dropFirst()).allSatisfy { holds($0, $1) }, "\(column.title)")
            }
        }
    }

    @Test func filterWithAFieldThatDoesNotExistIsNotTaken() {
        var model = Self.model([[Self.flow(1)]])
        for key in TopKey.keys(in: Array("/nosuchfield=1\r".utf8)) { _ = model.press(key) }
        #expect(model.mode == .filtering("nosuchfield=1") && model.filterText.isEmpty)
        #expect(model.trouble.contains("nosuchfield") && model.rows.count == 1)
    }

    @Test func groupsSumTheirFlows() {
        var model = Self.model([
            [
                Self.flow(1, sent: 1), Self.flow(2, sent: 2, service: "shop/db"),
                Self.flow(3, sent: 4, source: "shop/cron", state: .closed),
            ]
        ])
        model.group(by: .service)
        model.sort = .sent
        #expect(model.rows.map(\.name) == ["shop/web", "shop/db"] && model.rows.map(\.sent) == [5, 2])
        #expect(model.rows.first?.flows == 2 && model.rows.first?.open == 1)
        model.group(by: .workload)
        #expect(Set(model.rows.map(\.name)) == ["shop/curl", "shop/cron"])
    }

    @Test func keysFilterPauseSortAndQuit() {
        var model = Self.model([[Self.flow(1), Self.flow(2, source: "other")]])
        for key in TopKey.keys(in: Array("/other\r".utf8)) { #expect(model.press(key) == .redraw) }
        #expect(model.filterText == "other" && model.rows.count == 1)
        #expect(model.press(.escape) == .redraw && model.rows.count == 2)
        _ = model.press(.character("p"))
        model.take(FlowPage(), node: "a", now: 9_000_000_000)
        #expect(model.rows.count == 2)
        let before = model.sort
        _ = model.press(.right)
        #expect(model.sort != before)
        _ = model.press(.left)
        #expect(model.sort == before)
        _ = model.press(.character("?"))
        #expect(model.mode == .help)
        _ = model.press(.character("x"))
        #expect(model.press(.character("q")) == .quit && model.press(.interrupt) == .quit)
    }

    @Test func keysOfATerminalAreRead() {
        #expect(
            TopKey.keys(in: Array("a\u{1b}[A\u{1b}[6~\u{1b}OB\u{1b}[1;5Cé\u{3}".utf8))
                == [.character("a"), .up, .pageDown, .down, .right, .character("é"), .interrupt])
        #expect(TopKey.keys(in: [0x1b]) == [.escape])
        #expect(TopKey.keys(in: [0x1b, 0x5b]).isEmpty)
    }

    @Test(arguments: [(80, 24), (20, 5), (200, 60), (1, 1)]) func pictureFitsTheTerminal(columns: Int, rows: Int) {
        var model = Self.model([(1...100).map { Self.flow($0, source: String(repeating: "long", count: 30)) }])
        let view = TopView(columns: columns, rows: rows, hasColour: true)
        for grouping in TopGrouping.allCases {
            model.group(by: grouping)
            model.scroll = 1_000
            let lines = view.lines(model)
            #expect(lines.count == max(rows, 5) && lines.allSatisfy { $0.text.count <= max(columns, 20) })
        }
        _ = model.press(.character("?"))
        #expect(view.lines(model).count == max(rows, 5))
        #expect(TopView.help.count <= 21 && TopView.help.allSatisfy { $0.count <= 80 })
    }

    @Test func pictureAtEightyColumnsSaysWhatMatters() {
        let view = TopView(columns: 80, rows: 24, hasColour: false)
        let text = view.screen(Self.model([[Self.flow(1, sent: 2_048)]]))
        for part in ["node a", "1 flows", "lost 3", "SOURCE", "DESTINATION", "vOUT/S", "AGE", "shop/curl", "? help"] {
            #expect(text.contains(part), "\(part)")
        }
        #expect(!text.contains("\u{1b}[3"), "colour in spite of NO_COLOR")
    }

    @Test func namesCannotCommandTheTerminal() {
        let view = TopView(columns: 200, rows: 24, hasColour: false)
        let text = view.screen(Self.model([[Self.flow(1, source: "x\u{1b}]0;y\u{7}")]]))
        #expect(!text.contains("\u{1b}]"))
    }

    @Test func reportsHaveExactFigures() {
        let model = Self.model([[Self.flow(1, sent: 1_234_567, source: "a,\"b\"")]])
        let lines = TopReport.csv(model).split(separator: "\n")
        #expect(lines.count == 2 && lines[0].contains("bytes_sent,bytes_received"))
        #expect(lines[1].contains("\"a,\"\"b\"\"\"") && lines[1].contains(",1234567,"))
        let json = String(decoding: TopReport.json(model), as: UTF8.self)
        #expect(json.contains("\"bytes_sent\":1234567") && json.contains("\"lost\":3"))
        #expect(TopReport.table(model).split(separator: "\n").count == 2)
    }
}
