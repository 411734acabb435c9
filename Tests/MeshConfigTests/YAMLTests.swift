@testable import MeshConfig
import Testing

@Suite struct YAMLTests {
    private func parse(_ text: String, _ limits: YAMLLimits = YAMLLimits()) -> (
        documents: [YAMLNode], problems: [String]
    ) {
        var diagnostics = Diagnostics()
        let documents = YAMLParser.parse(Array(text.utf8), file: "f", limits: limits, diagnostics: &diagnostics)
        return (documents, diagnostics.list.map(\.description))
    }

    @Test func aliasesAreWrittenOut() throws {
        let (documents, problems) = parse("a: &x [1, 2]\nb: *x\n")
        #expect(problems.isEmpty)
        guard case .mapping(let entries) = try #require(documents.first).content else { return #expect(Bool(false)) }
        guard case .sequence(let elements) = entries[1].value.content else { return #expect(Bool(false)) }
        #expect(elements.count == 2 && entries[1].value.position.line == 2)
    }

    @Test func billionLaughsStopAtTheLimit() {
        var text = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
        for level in 1...20 {
            let aliases = [String](repeating: "*a\(level - 1)", count: 9).joined(separator: ", ")
            text += "a\(level): &a\(level) [\(aliases)]\n"
        }
        let (documents, problems) = parse(text)
        #expect(documents.isEmpty)
        #expect(problems.count == 1 && problems[0].contains("more than 1000000 values"))
    }

    @Test func anAliasInsideItsOwnAnchorIsRefused() {
        #expect(parse("a: &x [*x]\n").problems == ["f:1:8: error: the alias *x names no anchor before it"])
        #expect(parse("a: *x\n").problems.count == 1)
        #expect(parse("a: &x 1\n---\nb: *x\n").problems.count == 1)
    }

    @Test func depthDocumentsAndBytesAreLimited() {
        #expect(parse(String(repeating: "[", count: 100_000)).problems.first?.contains("nested deeper") == true)
        #expect(parse(String(repeating: "{a: ", count: 1_000)).problems.first?.contains("nested deeper") == true)
        var limits = YAMLLimits()
        limits.documentsMax = 3
        #expect(
            parse("--- 1\n--- 2\n--- 3\n--- 4\n", limits).problems == [
                "f:4:1: error: more documents than 3 in one file"
            ])
        limits.bytesMax = 10
        #expect(parse("aaaaaaaaaaaaaaa", limits).problems.first?.contains("expected at most 10") == true)
    }

    @Test func syntaxErrorsHaveTheirPlace() {
        #expect(parse("a: b\nc: [1,\n").problems.first?.hasPrefix("f:3:1: error: not YAML: ") == true)
        #expect(parse("a: b: c\n").problems.first?.hasPrefix("f:1:5: error: not YAML: ") == true)
        #expect(parse("a: !!int 1\n").problems == ["f:1:4: error: tags are not supported; remove the tag"])
        #expect(parse("? [a]\n: b\n").problems == ["f:1:3: error: a list can't be a key, expected a name"])
    }

    @Test func invalidTextIsRefused() {
        for bytes: [UInt8] in [[0xff, 0xfe, 0x61, 0], [0xc3, 0x28], [0x61, 0, 0x62], [0xed, 0xa0, 0x80]] {
            var diagnostics = Diagnostics()
            _ = YAMLParser.parse(bytes, file: "f", limits: YAMLLimits(), diagnostics: &diagnostics)
            #expect(diagnostics.hasErrors)
        }
    }

    @Test func mutatedFilesNeverTrap() {
        let configuration = Array(
            """
            node: a
            trustDomain: mesh.test
            admin: {group: &g mesh}
            proxy: {user: *g, memoryBudget: 16MiB, pingTimeout: 5s, loops: 2}
            metrics:
              address: "[::]:9000"
            log: {level: info}
            """.utf8)
        let resources = Array(ConfigurationReference.exampleResources.utf8)
        let alphabet = Array(":-[]{},&*!|>'\"%@`#?\n\t \\~0129azé\u{0}\u{feff}".utf8)
        var random = SplitMix(seed: 11)
        for round in 0..<3_000 {
            var bytes = round % 2 == 0 ? configuration : resources
            for _ in 0..<Int.random(in: 1...6, using: &random) where !bytes.isEmpty {
                let index = Int.random(in: 0..<bytes.count, using: &random)
                switch Int.random(in: 0...4, using: &random) {
                case 0: bytes[index] = alphabet[Int.random(in: 0..<alphabet.count, using: &random)]
                case 1: bytes.insert(alphabet[Int.random(in: 0..<alphabet.count, using: &random)], at: index)
                case 2: bytes.remove(at: index)
                case 3: bytes[index] = UInt8.random(in: 0...255, using: &random)
                default:
                    let end = min(bytes.count, index + Int.random(in: 1...20, using: &random))
                    bytes.insert(contentsOf: bytes[index..<end], at: Int.random(in: 0...bytes.count, using: &random))
                }
            }
            var diagnostics = Diagnostics()
            if round % 2 == 0 {
                let read = Configuration(yaml: bytes, file: "f", diagnostics: &diagnostics)
                #expect((read == nil) == diagnostics.hasErrors)
            } else {
                _ = DeclaredResources(yaml: bytes, file: "f", diagnostics: &diagnostics)
            }
            for diagnostic in diagnostics.list { #expect(diagnostic.position.line >= 1) }
        }
    }
}
