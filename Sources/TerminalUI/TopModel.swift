package import Telemetry

/// What `top` knows and shows: the last sample, the rates since the one before, and what the person asked for. It
/// reads nothing and draws nothing.
package struct TopModel: Sendable {
    package enum Mode: Equatable, Sendable {
        case watching
        /// A line being typed.
        case filtering(String)
        case help
    }

    package enum Action: Equatable, Sendable {
        case none, redraw, quit
    }

    package internal(set) var mode = Mode.watching
    package var grouping = TopGrouping.flow
    package var sort = TopColumn.sentRate
    package var isAscending = false
    package var filterText = "" { didSet { filter = FlowFilter(filterText) } }
    package internal(set) var isPaused = false
    package var showsEnded = true
    package internal(set) var scroll = 0
    /// Why the last sample could not be taken; empty when it could.
    package var trouble = ""
    package private(set) var node = ""
    package private(set) var lost: UInt64 = 0
    package private(set) var flows: [FlowRow] = []

    private var filter = FlowFilter.all
    private var rates: [UInt64: FlowRates] = [:]
    private var earlier: [UInt64: (sent: UInt64, received: UInt64)] = [:]
    private var earlierNanoseconds: UInt64?

    package init() {}

    /// Takes a sample of all flows; `now` is CLOCK_BOOTTIME nanoseconds.
    package mutating func take(_ page: FlowPage, node: String, now: UInt64) {
        trouble = ""
        guard !isPaused else { return }
        self.node = node
        lost = page.lost
        rates = [:]
        if let before = earlierNanoseconds, now > before {
            let seconds = Double(now - before) / 1e9
            for flow in page.flows {
                // A flow that is new since then began at nothing.
                let last = earlier[flow.id] ?? (0, 0)
                rates[flow.id] = FlowRates(
                    sent: Double(flow.bytesSent &- min(last.sent, flow.bytesSent)) / seconds,
                    received: Double(flow.bytesReceived &- min(last.received, flow.bytesReceived)) / seconds)
            }
        }
        flows = page.flows
        earlier = Dictionary(
            flows.map { ($0.id, ($0.bytesSent, $0.bytesReceived)) }, uniquingKeysWith: { _, last in last })
        earlierNanoseconds = now
    }

    /// The rows in order.
    package var rows: [TopRow] {
        let admitted = flows.filter { (showsEnded || $0.state == .open) && filter.admits($0) }
        let single = admitted.map { TopRow(flow: $0, rates: rates[$0.id] ?? FlowRates()) }
        guard grouping != .flow else { return sorted(single) }
        var groups: [String: TopRow] = [:]
        for (flow, row) in zip(admitted, single) {
            for name in names(of: flow) { groups[name, default: TopRow(name: name)].add(row) }
        }
        return sorted(Array(groups.values))
    }

    package mutating func press(_ key: TopKey) -> Action {
        switch mode {
        case .filtering(let text): return edit(text, key)
        case .help:
            mode = .watching
            return key == .interrupt ? .quit : .redraw
        case .watching: return command(key)
        }
    }

    package mutating func group(by grouping: TopGrouping) {
        self.grouping = grouping
        scroll = 0
        if !TopColumn.columns(grouping).contains(sort) { sort = .sentRate }
    }

    // MARK: private

    private mutating func command(_ key: TopKey) -> Action {
        switch key {
        case .interrupt, .character("q"): return .quit
        case .character("?"), .character("h"): mode = .help
        case .character("/"): mode = .filtering(filterText)
        case .escape:
            filterText = ""
            scroll = 0
        case .character("p"), .character(" "): isPaused.toggle()
        case .character("r"): isAscending.toggle()
        case .character("c"): showsEnded.toggle()
        case .character("g"): group(by: next(of: grouping, in: TopGrouping.allCases, step: 1))
        case .character("f"): group(by: .flow)
        case .character("w"): group(by: .workload)
        case .character("s"): group(by: .service)
        case .character("n"): group(by: .node)
        case .right, .character(">"): moveSort(by: 1)
        case .left, .character("<"): moveSort(by: -1)
        case .down, .character("j"): scroll += 1
        case .up, .character("k"): scroll = max(0, scroll - 1)
        case .pageDown: scroll += 10
        case .pageUp: scroll = max(0, scroll - 10)
        case .home: scroll = 0
        case .character, .enter, .backspace: return .none
        }
        return .redraw
    }

    private mutating func edit(_ text: String, _ key: TopKey) -> Action {
        switch key {
        case .interrupt: return .quit
        case .escape: mode = .watching
        case .enter:
            // The person sees why it is not taken, and goes on typing.
            if let problem = FlowFilter(text).problem {
                trouble = problem
            } else {
                filterText = text
                (mode, scroll, trouble) = (.watching, 0, "")
            }
        case .backspace: mode = .filtering(String(text.dropLast()))
        case .character(let character): mode = .filtering(String((text + String(character)).prefix(200)))
        default: return .none
        }
        return .redraw
    }

    private mutating func moveSort(by step: Int) {
        sort = next(of: sort, in: TopColumn.columns(grouping), step: step)
        isAscending = sort.isText
    }

    private func next<Element: Equatable>(of element: Element, in list: [Element], step: Int) -> Element {
        let index = list.firstIndex(of: element) ?? 0
        return list[(index + step + list.count) % list.count]
    }

    /// The groups that a flow counts in: by workload those that are on this node.
    private func names(of flow: FlowRow) -> [String] {
        func named(_ text: String, _ otherwise: String) -> String { text.isEmpty ? otherwise : text }
        switch grouping {
        case .flow: return []
        case .service: return [named(flow.service, "(no service)")]
        case .node: return [named(flow.peerNode, "(this node or outside)")]
        case .workload:
            let source = named(flow.sourceWorkload, "(unknown)")
            let destination = named(flow.destinationWorkload, "(unknown)")
            switch flow.direction {
            case "inbound": return [destination]
            case "local": return source == destination ? [source] : [source, destination]
            default: return [source]
            }
        }
    }

    /// Equal rows keep a fixed order, so that the picture does not flicker.
    private func sorted(_ rows: [TopRow]) -> [TopRow] {
        rows.enumerated().map { ($0.offset, $0.element, sort.isText ? sort.text($0.element) : "") }
            .sorted { left, right in
                if sort.isText {
                    if left.2 != right.2 { return (left.2 < right.2) == isAscending }
                } else {
                    let (first, second) = (sort.number(left.1), sort.number(right.1))
                    if first != second { return (first < second) == isAscending }
                }
                if left.1.name != right.1.name { return left.1.name < right.1.name }
                return left.0 < right.0
            }.map(\.1)
    }
}

/// What a person pressed.
package enum TopKey: Equatable, Sendable {
    case character(Character)
    case up, down, left, right, pageUp, pageDown, home
    case enter, escape, backspace
    /// Control-C or control-D: raw input delivers them as bytes.
    case interrupt

    /// Reads the keys in what a terminal sent at once. Sequences that are not known are left out.
    package static func keys(in bytes: [UInt8]) -> [TopKey] {
        var keys: [TopKey] = []
        var rest = bytes[...]
        while let first = rest.first {
            rest.removeFirst()
            switch first {
            case 0x03, 0x04: keys.append(.interrupt)
            case 0x0d, 0x0a: keys.append(.enter)
            case 0x7f, 0x08: keys.append(.backspace)
            case 0x1b: if let key = escaped(&rest) { keys.append(key) }
            case 0x20..<0x7f: keys.append(.character(Character(Unicode.Scalar(first))))
            case 0x80...:
                let follow = rest.prefix { $0 & 0xc0 == 0x80 }
                rest = rest.dropFirst(follow.count)
                keys += String(decoding: [first] + follow, as: UTF8.self).prefix(1).map { .character($0) }
            default: break
            }
        }
        return keys
    }

    // MARK: private

    private static func escaped(_ rest: inout ArraySlice<UInt8>) -> TopKey? {
        guard let introducer = rest.first, introducer == UInt8(ascii: "[") || introducer == UInt8(ascii: "O") else {
            return .escape
        }
        rest.removeFirst()
        let parameters = rest.prefix { (0x30...0x3f).contains($0) }
        rest = rest.dropFirst(parameters.count)
        guard let final = rest.popFirst() else { return nil }
        return switch final {
        case UInt8(ascii: "A"): .up
        case UInt8(ascii: "B"): .down
        case UInt8(ascii: "C"): .right
        case UInt8(ascii: "D"): .left
        case UInt8(ascii: "H"): .home
        case UInt8(ascii: "~") where parameters.elementsEqual("5".utf8): .pageUp
        case UInt8(ascii: "~") where parameters.elementsEqual("6".utf8): .pageDown
        case UInt8(ascii: "~") where parameters.elementsEqual("1".utf8): .home
        default: nil
        }
    }
}
