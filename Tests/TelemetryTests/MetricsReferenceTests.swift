import Glibc
import MeshModel
import Telemetry
import Testing

@Suite struct MetricsReferenceTests {
    static let path = "\(#filePath.split(separator: "/").dropLast(3).reduce("") { $0 + "/" + $1 })/docs/METRICS.md"
    static let begin = "<!-- from /metrics: begin -->\n"
    static let end = "<!-- from /metrics: end -->\n"

    /// One row for each family that the page announces.
    static var table: String {
        var node = NodeMetrics()
        node.trustBundleNotAfter = 1
        let lines = String(decoding: MetricsPage.bytes(node, FlowTable()), as: UTF8.self).split(separator: "\n")
        var text = "| Metric | Type | Meaning |\n| --- | --- | --- |\n"
        var help: Substring = ""
        for line in lines {
            let words = line.split(separator: " ", maxSplits: 3)
            if line.hasPrefix("# HELP ") { help = words[3] }
            if line.hasPrefix("# TYPE ") { text += "| `\(words[2])` | \(words[3]) | \(help) |\n" }
        }
        return text
    }

    static func read() -> String {
        guard let file = fopen(path, "r") else { return "" }
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = fread(&bytes, 1, bytes.count, file)
        return String(decoding: bytes[..<count], as: UTF8.self)
    }

    /// The page's table is made from the code: run this with CULVERT_WRITE_REFERENCE=1 to make it anew.
    @Test func documentationNamesEveryMetric() throws {
        let text = Self.read()
        let begin = try #require(text.firstRange(of: Self.begin))
        let end = try #require(text.firstRange(of: Self.end))
        let made = text[..<begin.upperBound] + Self.table + text[end.lowerBound...]
        if getenv("CULVERT_WRITE_REFERENCE") != nil {
            let file = try #require(fopen(Self.path, "w"))
            fputs(String(made), file)
            fclose(file)
        }
        #expect(text == made, "docs/METRICS.md is not what /metrics says")
    }
}
