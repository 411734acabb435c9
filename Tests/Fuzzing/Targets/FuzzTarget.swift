// FuzzTargets holds what tools/fuzz runs under libFuzzer and FuzzCorpusTests runs over the kept corpus: every parser
// that reads bytes of somebody else, each with what must hold besides not trapping. A broken promise is a failed
// precondition.

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
    /// meshd.yaml.
    case configuration
    /// Resource files.
    case resources
    /// HTTP requests to the admin socket and to the metrics port.
    case requests
    /// The bytes of a snapshot, from a memfd or from disk.
    case snapshots
    /// The first bytes on the tunnel port: TLS records, ClientHello, server name.
    case hello
    /// Certificates, bundles and keys.
    case certificates
    /// Kernel events and the proxy's records of connections.
    case events
    /// Connection records, read back from disk.
    case records
    /// What meshctl is answered.
    case answers

    /// How many changed inputs FuzzCorpusTests tries: a second or two of them, without optimisation.
    package var changesInTests: Int {
        switch self {
        case .frames, .hpack, .connect, .control, .windows, .names, .requests: 3_000
        case .snapshots, .hello, .answers: 500
        case .configuration, .resources, .certificates, .events, .records: 200
        }
    }

    /// Traps where a promise is broken.
    package func run(_ input: UnsafeRawBufferPointer) {
        switch self {
        case .frames: fuzzFrames(input)
        case .hpack: fuzzHeaderBlocks(input)
        case .connect: fuzzConnect(input)
        case .control: fuzzControl(input)
        case .windows: fuzzWindows(input)
        case .names: fuzzNames(input)
        case .configuration: fuzzConfiguration(input)
        case .resources: fuzzResources(input)
        case .requests: fuzzRequests(input)
        case .snapshots: fuzzSnapshots(input)
        case .hello: fuzzHello(input)
        case .certificates: fuzzCertificates(input)
        case .events: fuzzEvents(input)
        case .records: fuzzRecords(input)
        case .answers: fuzzAnswers(input)
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
