// FuzzTargets holds what tools/fuzz runs under libFuzzer and FuzzCorpusTests runs over the kept corpus: every parser
// that reads a peer's bytes, each with what must hold besides not trapping. A broken promise is a failed precondition.

/// A parser under fuzzing; the raw value names its corpus, `Tests/Fuzzing/corpus/<name>`.
package enum FuzzTarget: String, CaseIterable, Sendable {
    /// HTTP/2 frames of one connection.
    case frames
    /// HPACK blocks of one connection.
    case hpack
    /// Fields of a CONNECT request and its answer: authority, forwarded, traceparent, baggage.
    case connect
    /// Messages between meshd and its proxy.
    case control
    /// Flow-control windows and stream states, driven by the input.
    case windows
    /// DNS queries, what is said to them, and answers of upstreams.
    case names

    /// Traps where a promise is broken.
    package func run(_ input: UnsafeRawBufferPointer) {
        switch self {
        case .frames: fuzzFrames(input)
        case .hpack: fuzzHeaderBlocks(input)
        case .connect: fuzzConnect(input)
        case .control: fuzzControl(input)
        case .windows: fuzzWindows(input)
        case .names: fuzzNames(input)
        }
    }
}

/// Takes numbers off the front of an input; zero once it is used up.
struct FuzzInput {
    private(set) var rest: Slice<UnsafeRawBufferPointer>

    init(_ input: UnsafeRawBufferPointer) { rest = input[...] }

    var isEmpty: Bool { rest.isEmpty }

    mutating func byte() -> UInt8 { rest.popFirst() ?? 0 }

    mutating func word() -> UInt32 {
        (0..<4).reduce(UInt32(0)) { word, _ in word << 8 | UInt32(byte()) }
    }

    mutating func bytes(_ count: Int) -> [UInt8] {
        let taken = Array(rest.prefix(count))
        rest = rest.dropFirst(count)
        return taken
    }
}
