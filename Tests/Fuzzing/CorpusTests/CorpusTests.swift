import FuzzTargets
import Glibc
import Testing

/// Every input that tools/fuzz has kept goes through its target again, and so does a fixed number of changed ones: what
/// was found once stays found, on machines without libFuzzer too.
@Suite struct CorpusTests {
    @Test(arguments: FuzzTarget.allCases) func everyKeptInputIsHarmless(_ target: FuzzTarget) {
        let inputs = Corpus.inputs(of: target)
        #expect(!inputs.isEmpty, "no corpus for \(target)")
        for input in inputs { input.withUnsafeBytes { target.run($0) } }
    }

    @Test(arguments: FuzzTarget.allCases) func changedInputsAreHarmless(_ target: FuzzTarget) {
        let inputs = Corpus.inputs(of: target)
        guard !inputs.isEmpty else { return }
        var random = RepeatableRandom(seed: 1)
        for _ in 0..<target.changesInTests {
            var input = inputs[Int.random(in: 0..<inputs.count, using: &random)]
            for _ in 0...Int.random(in: 0...4, using: &random) { Corpus.change(&input, inputs, &random) }
            input.withUnsafeBytes { target.run($0) }
        }
    }
}

/// The same numbers in every run: a failure is repeatable.
private struct RepeatableRandom: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        // SplitMix64
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }
}

private enum Corpus {
    /// Inputs in order of their names.
    static func inputs(of target: FuzzTarget) -> [[UInt8]] {
        let folder =
            #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(2)
            .joined(separator: "/") + "/corpus/\(target.rawValue)"
        guard let directory = opendir(folder) else { return [] }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if !name.hasPrefix(".") { names.append(name) }
        }
        return names.sorted().compactMap { read("\(folder)/\($0)") }
    }

    static func change(_ input: inout [UInt8], _ others: [[UInt8]], _ random: inout RepeatableRandom) {
        let position = input.isEmpty ? 0 : Int.random(in: 0..<input.count, using: &random)
        switch Int.random(in: 0...4, using: &random) {
        case 0 where !input.isEmpty: input[position] = UInt8.random(in: 0...255, using: &random)
        case 1 where !input.isEmpty: input[position] ^= 1 << UInt8.random(in: 0...7, using: &random)
        case 2: input.insert(UInt8.random(in: 0...255, using: &random), at: position)
        case 3: input.removeSubrange(position..<min(input.count, position + Int.random(in: 0...8, using: &random)))
        default:
            let other = others[Int.random(in: 0..<others.count, using: &random)]
            input.replaceSubrange(position..., with: other.suffix(Int.random(in: 0...other.count, using: &random)))
        }
    }

    private static func read(_ path: String) -> [UInt8]? {
        guard let file = fopen(path, "r") else { return nil }
        defer { fclose(file) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4_096)
        while true {
            let count = fread(&buffer, 1, buffer.count, file)
            guard count > 0 else { return bytes }
            bytes += buffer.prefix(count)
        }
    }
}
