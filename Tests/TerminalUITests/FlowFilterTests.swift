import Telemetry
import TerminalUI
import Testing

@Suite struct FlowFilterTests {
    var flow: FlowRow {
        var flow = FlowRow()
        flow.sourceWorkload = "shop/curl"
        flow.command = "curl"
        flow.service = "shop/web"
        flow.verdict = .denied
        return flow
    }

    @Test(arguments: [
        ("", true), ("CURL", true), ("nginx", false), ("!nginx", true), ("verdict=denied curl", true),
        ("source=curl", true), ("destination=curl", false), ("verdict=allowed", false), ("service=curl", false),
        ("!service=web", false), ("!", true), ("=x", false),
    ]) func everyWordMustHold(text: String, admitted: Bool) {
        #expect(FlowFilter(text).admits(flow) == admitted)
    }

    @Test func fieldThatDoesNotExistIsAProblemThatNamesTheFields() {
        #expect(["", "curl", "verdict=denied !pid=7", "=x", "!"].allSatisfy { FlowFilter($0).problem == nil })
        for text in ["nosuchfield=x", "curl !nosuchfield=x"] {
            let problem = FlowFilter(text).problem ?? ""
            #expect(problem.contains("'nosuchfield'") && problem.contains("source_principal"), "\(text)")
        }
    }

    /// But one, which is called as its column.
    @Test func everyFieldIsCalledAsInTheJSON() {
        for field in FlowFilter.fields where field != "destination" {
            #expect(FlowRow().jsonText.contains("\"\(field)\":"), "\(field)")
        }
    }
}

@Suite struct FiguresTests {
    @Test func figuresAreShort() {
        #expect(
            [0, 1_023, 1_024, 10_240, 1 << 20, 1_073_741_824, .max].map { Figures.bytes($0) }
                == ["0B", "1023B", "1.0K", "10K", "1.0M", "1.0G", "16E"])
        #expect([0, 999, 1_500, 2_000_000].map { Figures.microseconds($0) } == ["-", "999us", "1.5ms", "2.0s"])
        #expect(
            [5, 1_500, 61_000, 3_660_000, 90_000_000].map { Figures.duration(milliseconds: $0) }
                == ["5ms", "1.5s", "1m01s", "1h01m", "1d01h"])
    }

    @Test func durationsAreReadWithTheirUnits() {
        #expect(
            ["90", "90s", "5m", "2h", "1d", "500ms"].map { Figures.milliseconds(of: $0) }
                == [90_000, 90_000, 300_000, 7_200_000, 86_400_000, 500])
        #expect(["", "s", "5x", "-1", "99999999999d", "1.5s"].allSatisfy { Figures.milliseconds(of: $0) == nil })
    }

    @Test func tableAlignsAndDisarmsControlCharacters() {
        var table = TextTable(["NAME", "BYTES"], right: ["BYTES"])
        #expect(
            table.text([["a\u{1b}[2J", "7"], ["", "1234567"]])
                == "NAME     BYTES\na?[2J        7\n-      1234567\n")
    }
}
