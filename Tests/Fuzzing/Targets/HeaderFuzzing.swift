import HBONE
import HTTP2Framing

/// Input: size of the pieces, then blocks, each behind a byte with its length. Blocks must read the same in pieces as at
/// once, within the limits, and whatever they hold goes through both field readers.
func fuzzHeaderBlocks(_ input: UnsafeRawBufferPointer) {
    var reader = FuzzInput(input)
    let chunk = max(1, Int(reader.byte()))
    guard var whole = HeaderDecoder(listSizeMax: 512, fieldsMax: 8),
        var cut = HeaderDecoder(listSizeMax: 512, fieldsMax: 8)
    else { return }
    while !reader.isEmpty {
        let block = reader.bytes(Int(reader.byte()))
        var (first, second) = (BlockDigest(), BlockDigest())
        let outcome = block.withUnsafeBytes { whole.decode($0, isLast: true) { first.take($0, $1) } }
        let inPieces = decode(block, &cut, chunk: chunk, into: &second)
        precondition(outcome == inPieces, "blocks read otherwise in pieces of \(chunk)")
        precondition(outcome != .more, "a last piece that is not the last")
        guard outcome == .complete || outcome == .tooLarge else { return }
        precondition(first == second, "fields differ in pieces of \(chunk)")
        precondition(first.listSize <= 512 && first.count <= 8, "above the limits")
    }
}

private func decode(
    _ block: [UInt8], _ decoder: inout HeaderDecoder, chunk: Int, into digest: inout BlockDigest
) -> HeaderDecoder.Outcome {
    var rest = block[...]
    while true {
        let part = Array(rest.prefix(chunk))
        rest = rest.dropFirst(chunk)
        let outcome = part.withUnsafeBytes { decoder.decode($0, isLast: rest.isEmpty) { digest.take($0, $1) } }
        if outcome != .more || rest.isEmpty { return outcome }
    }
}

/// The fields of a block and what they amount to.
private struct BlockDigest: Equatable {
    private(set) var count = 0
    private(set) var listSize = 0
    private var fields: [[UInt8]] = []

    mutating func take(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        count += 1
        listSize += name.count + value.count + 32
        fields += [Array(name), Array(value)]
        var request = ConnectRequestReader()
        request.field(name, value)
        var response = ConnectResponseReader()
        response.field(name, value)
    }
}

/// Input: lines of `name value`. As fields of a request and of an answer, and each value by itself as every header that
/// has a grammar: what was read and is written again must read the same.
func fuzzConnect(_ input: UnsafeRawBufferPointer) {
    var request = ConnectRequestReader()
    var response = ConnectResponseReader()
    for line in input.split(separator: UInt8(ascii: "\n"), maxSplits: 32, omittingEmptySubsequences: true) {
        let space = line.firstIndex(of: UInt8(ascii: " ")) ?? line.endIndex
        let name = UnsafeRawBufferPointer(rebasing: line[..<space])
        let value = UnsafeRawBufferPointer(rebasing: line[space...].dropFirst())
        request.field(name, value)
        response.field(name, value)
        checkValue(value)
    }
    if case .connect(let read) = request.finish() { checkWritten(read) }
    _ = response.finish(endsStream: false)
}

private func checkValue(_ value: UnsafeRawBufferPointer) {
    if let authority = Authority(parsing: value) {
        precondition(authority.port != 0, "an authority without a port")
        precondition(reread(authority.description) { Authority(parsing: $0) } == authority)
    }
    if let forwarded = Forwarded(parsing: value), forwarded.client != nil || forwarded.host != nil {
        precondition(reread(forwarded.description) { Forwarded(parsing: $0) } == forwarded)
    }
    if let parent = TraceParent(parsing: value) {
        precondition(parent.description.utf8.elementsEqual(value), "a traceparent has one spelling")
    }
    if let baggage = Baggage(parsing: value) {
        let text = baggage.description
        precondition(reread(text) { Baggage(parsing: $0) }?.description == text)
    }
}

private func reread<Value>(_ text: String, _ parse: (UnsafeRawBufferPointer) -> Value?) -> Value? {
    Array(text.utf8).withUnsafeBytes { parse($0) }
}

/// A request that was read, sent on: through HPACK and back.
private func checkWritten(_ request: ConnectRequest) {
    guard var encoder = HeaderEncoder(), var decoder = HeaderDecoder() else { return }
    var fields = HeaderFields()
    ConnectRequest.write(
        authority: request.authority, forwarded: nil, traceParent: request.traceParent,
        baggage: request.baggage?.description, to: &fields)
    let block = [UInt8](unsafeUninitializedCapacity: encoder.sizeMax(of: fields)) { buffer, count in
        count = encoder.encode(fields, to: UnsafeMutableRawBufferPointer(buffer)) ?? 0
    }
    var reader = ConnectRequestReader()
    let outcome = block.withUnsafeBytes { decoder.decode($0, isLast: true) { reader.field($0, $1) } }
    guard outcome == .complete, case .connect(let again) = reader.finish() else {
        preconditionFailure("our own request is not readable")
    }
    precondition(again.authority == request.authority && again.traceParent == request.traceParent)
}
