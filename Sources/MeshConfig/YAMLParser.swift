import CYAML

/// Reads the documents of a YAML file through libyaml's events.
struct YAMLParser {
    private let file: String
    private let limits: YAMLLimits
    private var nodeCount = 0
    private var anchors: [String: YAMLNode] = [:]
    private var diagnostics = Diagnostics()

    /// The documents before the first syntax error, if there is one, and all problems. Duplicate keys don't stop it.
    static func parse(
        _ bytes: [UInt8], file: String, limits: YAMLLimits, diagnostics: inout Diagnostics
    ) -> [YAMLNode] {
        guard bytes.count <= limits.bytesMax else {
            diagnostics.error(
                SourcePosition(file: file), "the file has \(bytes.count) bytes, expected at most \(limits.bytesMax)")
            return []
        }
        var parser = YAMLParser(file: file, limits: limits)
        var documents: [YAMLNode] = []
        parser.run(bytes, into: &documents)
        diagnostics.add(parser.diagnostics)
        return documents
    }

    // MARK: private

    private init(file: String, limits: YAMLLimits) {
        self.file = file
        self.limits = limits
    }

    /// Thrown once a problem that ends the file has been noted.
    private struct Stop: Error {}

    private mutating func run(_ bytes: [UInt8], into documents: inout [YAMLNode]) {
        var parser = yaml_parser_t()
        guard yaml_parser_initialize(&parser) == 1 else {
            diagnostics.error(SourcePosition(file: file), "out of memory")
            return
        }
        defer { yaml_parser_delete(&parser) }
        yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING)
        bytes.withUnsafeBufferPointer { buffer in
            // libyaml keeps the pointer until the parser is deleted; it reads only inside this call. An empty file
            // has no buffer, and libyaml wants a pointer all the same.
            var nothing: UInt8 = 0
            withUnsafePointer(to: &nothing) { placeholder in
                yaml_parser_set_input_string(&parser, buffer.baseAddress ?? placeholder, buffer.count)
                do throws(Stop) {
                    try readStream(&parser, into: &documents)
                } catch {}
            }
        }
    }

    private mutating func readStream(
        _ parser: inout yaml_parser_t, into documents: inout [YAMLNode]
    ) throws(Stop) {
        while true {
            let event = try next(&parser)
            switch event.kind {
            case YAML_STREAM_END_EVENT: return
            case YAML_DOCUMENT_START_EVENT:
                anchors.removeAll()
                guard documents.count < limits.documentsMax else {
                    try stop(event.position, "more documents than \(limits.documentsMax) in one file")
                }
                documents.append(try node(&parser, try next(&parser), depth: 0))
            default: continue
            }
        }
    }

    private mutating func node(
        _ parser: inout yaml_parser_t, _ event: Event, depth: Int
    ) throws(Stop) -> YAMLNode {
        guard depth < limits.depthMax else {
            try stop(event.position, "nested deeper than \(limits.depthMax) levels")
        }
        if event.hasTag { try stop(event.position, "tags are not supported; remove the tag") }
        var node: YAMLNode
        switch event.kind {
        case YAML_ALIAS_EVENT: return try alias(event)
        case YAML_SCALAR_EVENT:
            node = YAMLNode(content: .scalar(event.text, isPlain: event.isPlain), position: event.position)
            try count(1, event.position)
        case YAML_SEQUENCE_START_EVENT: node = try sequence(&parser, event, depth: depth)
        case YAML_MAPPING_START_EVENT: node = try mapping(&parser, event, depth: depth)
        default: try stop(event.position, "expected a value")
        }
        // Only now: an alias inside its own anchor finds none.
        if let anchor = event.anchor { anchors[anchor] = node }
        return node
    }

    private mutating func sequence(
        _ parser: inout yaml_parser_t, _ start: Event, depth: Int
    ) throws(Stop) -> YAMLNode {
        try count(1, start.position)
        var elements: [YAMLNode] = []
        var size = 1
        while true {
            let event = try next(&parser)
            if event.kind == YAML_SEQUENCE_END_EVENT { break }
            let element = try node(&parser, event, depth: depth + 1)
            size += element.size
            elements.append(element)
        }
        return YAMLNode(content: .sequence(elements), position: start.position, size: size)
    }

    private mutating func mapping(
        _ parser: inout yaml_parser_t, _ start: Event, depth: Int
    ) throws(Stop) -> YAMLNode {
        try count(1, start.position)
        var entries: [YAMLNode.Entry] = []
        var seen: [String: SourcePosition] = [:]
        var size = 1
        while true {
            let event = try next(&parser)
            if event.kind == YAML_MAPPING_END_EVENT { break }
            let key = try node(&parser, event, depth: depth + 1)
            let value = try node(&parser, try next(&parser), depth: depth + 1)
            size += 1 + value.size
            guard case .scalar(let name, _) = key.content else {
                diagnostics.error(key.position, "\(key.kindName) can't be a key, expected a name")
                continue
            }
            if let first = seen[name] {
                diagnostics.error(
                    key.position, "duplicate key `\(name)`, expected it once; the first is at line \(first.line)")
                continue
            }
            seen[name] = key.position
            entries.append(YAMLNode.Entry(key: name, keyPosition: key.position, value: value))
        }
        return YAMLNode(content: .mapping(entries), position: start.position, size: size)
    }

    private mutating func alias(_ event: Event) throws(Stop) -> YAMLNode {
        guard let anchor = event.anchor, var node = anchors[anchor] else {
            try stop(event.position, "the alias *\(event.anchor ?? "") names no anchor before it")
        }
        // Counted as if it were written out, so that a few lines can't stand for billions of nodes.
        try count(node.size, event.position)
        node.position = event.position
        return node
    }

    private mutating func count(_ size: Int, _ position: SourcePosition) throws(Stop) {
        nodeCount += size
        if nodeCount > limits.nodesMax {
            try stop(position, "more than \(limits.nodesMax) values in one file, aliases written out")
        }
    }

    private mutating func stop(_ position: SourcePosition, _ message: String) throws(Stop) -> Never {
        diagnostics.error(position, message)
        throw Stop()
    }

    // MARK: events

    private struct Event {
        var kind: yaml_event_type_t
        var position: SourcePosition
        var text = ""
        var isPlain = false
        var anchor: String?
        var hasTag = false
    }

    private mutating func next(_ parser: inout yaml_parser_t) throws(Stop) -> Event {
        var raw = yaml_event_t()
        guard yaml_parser_parse(&parser, &raw) == 1 else {
            let problem = parser.problem.map { String(cString: $0) } ?? "out of memory"
            // Reader errors (encoding) have an offset in bytes only.
            let mark = parser.error == YAML_READER_ERROR ? parser.mark : parser.problem_mark
            try stop(position(mark), "not YAML: \(problem)")
        }
        defer { yaml_event_delete(&raw) }
        var event = Event(kind: raw.type, position: position(raw.start_mark))
        switch raw.type {
        case YAML_SCALAR_EVENT:
            let scalar = raw.data.scalar
            event.text = String(
                decoding: UnsafeBufferPointer(start: scalar.value, count: scalar.length), as: UTF8.self)
            event.isPlain = scalar.style == YAML_PLAIN_SCALAR_STYLE
            event.anchor = Self.string(scalar.anchor)
            event.hasTag = scalar.tag != nil
        case YAML_SEQUENCE_START_EVENT:
            event.anchor = Self.string(raw.data.sequence_start.anchor)
            event.hasTag = raw.data.sequence_start.tag != nil
        case YAML_MAPPING_START_EVENT:
            event.anchor = Self.string(raw.data.mapping_start.anchor)
            event.hasTag = raw.data.mapping_start.tag != nil
        case YAML_ALIAS_EVENT: event.anchor = Self.string(raw.data.alias.anchor)
        default: break
        }
        return event
    }

    private func position(_ mark: yaml_mark_t) -> SourcePosition {
        SourcePosition(file: file, line: mark.line + 1, column: mark.column + 1)
    }

    private static func string(_ pointer: UnsafeMutablePointer<yaml_char_t>?) -> String? {
        pointer.map { String(cString: $0) }
    }
}
