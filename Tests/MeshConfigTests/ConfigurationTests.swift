@testable import MeshConfig
import MeshModel
import Testing

@Suite struct ConfigurationTests {
    private func read(_ text: String) -> (configuration: Configuration?, problems: [String]) {
        var diagnostics = Diagnostics()
        let configuration = Configuration(yaml: Array(text.utf8), file: "meshd.yaml", diagnostics: &diagnostics)
        return (configuration, diagnostics.list.map(\.description))
    }

    @Test func smallestFileTakesEveryDefault() throws {
        let (configuration, problems) = read("node: a\ntrustDomain: mesh.test\n")
        #expect(problems.isEmpty)
        var expected = Configuration()
        expected.node = "a"
        expected.trustDomain = "mesh.test"
        #expect(configuration == expected)
        #expect(expected.admin.socket == "/run/culvert/admin.sock")
        #expect(expected.proxy.memoryBudgetBytes == 256 << 20)
        #expect(expected.proxy.idleTunnelTimeoutMilliseconds == 300_000)
        #expect(expected.metricsAddress == SocketAddress(parsing: "127.0.0.1:15020"))
        #expect(expected.tunnelPort == 15008 && expected.failureMode == .closed)
    }

    @Test func readsEveryKindOfOption() throws {
        let (read, problems) = read(
            """
            node: b
            trustDomain: mesh.test
            cgroupRoot: /sys/fs/cgroup/lab
            runtimeDirectory: /run/lab
            admin: {group: wheel}
            metrics: {address: "[::]:9000"}
            readiness:
              address: none
            tunnel: {port: 25008}
            proxy:
              memoryBudget: 16MiB
              descriptorsMax: 256
              connectTimeout: 250ms
            failureMode: open
            log: {level: debug, format: json}
            """)
        #expect(problems.isEmpty)
        let configuration = try #require(read)
        #expect(configuration.cgroupRoot == "/sys/fs/cgroup/lab")
        #expect(configuration.admin.socket == "/run/lab/admin.sock" && configuration.admin.group == "wheel")
        #expect(configuration.metricsAddress == SocketAddress(.unspecified, 9000))
        #expect(configuration.readinessAddress == nil)
        #expect(configuration.tunnelPort == 25008)
        #expect(configuration.proxy.memoryBudgetBytes == 16 << 20 && configuration.proxy.descriptorsMax == 256)
        #expect(configuration.proxy.connectTimeoutMilliseconds == 250)
        #expect(configuration.failureMode == .open)
        #expect(configuration.log == Configuration.Log(level: .debug, format: .json))
    }

    @Test func tellsAllProblemsAtOnceWithTheirPlaces() {
        let (configuration, problems) = read(
            """
            node: "a b"
            trustDomian: mesh.test
            proxy:
              memoryBudget: 1MiB
              conectTimeout: 10s
              pingTimeout: 10
              loops: "2"
            log: {level: wran}
            metrics: 15020
            bpffs: sys/fs/bpf
            """)
        #expect(configuration == nil)
        let starts = [
            "meshd.yaml:1:7: error: `node` is the text \"a b\", expected a name of",
            "meshd.yaml:2:1: error: unknown key `trustDomian` in the file, expected one of node, trustDomain, ",
            "meshd.yaml:4:17: error: `proxy.memoryBudget` is the text \"1MiB\", expected a size (",
            "meshd.yaml:5:3: error: unknown key `conectTimeout` in section `proxy`, expected one of user, launch, ",
            "meshd.yaml:6:16: error: `proxy.pingTimeout` is the number 10, expected a duration (",
            "meshd.yaml:7:10: error: `proxy.loops` is the text \"2\", expected a whole number from 0 to 64",
            "meshd.yaml:8:14: error: `log.level` is the text \"wran\", expected `error` or `warn`",
            "meshd.yaml:9:10: error: the number 15020 in place of section `metrics`, expected a mapping",
            "meshd.yaml:10:8: error: `bpffs` is the text \"sys/fs/bpf\", expected an absolute path",
            "meshd.yaml:1:1: error: `trustDomain` is missing, expected lower-case letters",
        ]
        #expect(problems.count == starts.count)
        for (problem, start) in zip(problems, starts) { #expect(problem.hasPrefix(start), "\(problem)") }
        #expect(problems[1].hasSuffix("; did you mean `trustDomain`?"))
        #expect(problems[3].hasSuffix("; did you mean `connectTimeout`?"))
        #expect(problems[6].hasSuffix("; did you mean `warn`?"))
    }

    @Test func emptyAndDoubleFilesAreRefused() {
        #expect(read("").problems.count == 2)
        #expect(read("# nothing\n").problems.count == 2)
        let twice = read("node: a\ntrustDomain: t\n---\nnode: b\n").problems
        #expect(twice == ["meshd.yaml:4:1: error: a second document, expected one"])
        #expect(
            read("- a\n").problems.first == "meshd.yaml:1:1: error: a list in place of the file, expected a mapping")
    }

    @Test func everyDefaultLiesWithinItsBounds() {
        for option in ConfigurationOption.all {
            if case .value(let text) = option.standard {
                #expect(option.kind.value(of: text) != nil, "\(option.path): \(text)")
            }
        }
        #expect(Set(ConfigurationOption.all.map(\.path)).count == ConfigurationOption.all.count)
    }

    @Test func quantitiesComeBackFromTheirText() {
        let durations: [(String, UInt64?)] = [
            ("0ms", 0), ("500ms", 500), ("30s", 30_000), ("5m", 300_000), ("1h", 3_600_000), ("", nil), ("5", nil),
            ("s", nil), ("-5s", nil), ("05s", nil), ("1.5s", nil), ("5 s", nil), ("5S", nil), ("5d", nil),
            ("99999999999999999999s", nil), ("18446744073709551615h", nil),
        ]
        for (text, value) in durations { #expect(DurationText.milliseconds(parsing: text) == value, "\(text)") }
        let sizes: [(String, UInt64?)] = [
            ("0B", 0), ("512B", 512), ("64KiB", 65_536), ("256MiB", 268_435_456), ("2GiB", 2_147_483_648), ("1KB", nil),
            ("1k", nil), ("1", nil), ("17179869184GiB", nil),
        ]
        for (text, value) in sizes { #expect(SizeText.bytes(parsing: text) == value, "\(text)") }
        for value: UInt64 in [0, 1, 999, 1_000, 60_000, 3_600_000, 90_000] {
            #expect(DurationText.milliseconds(parsing: DurationText.format(milliseconds: value)) == value)
        }
        #expect(SizeText.format(bytes: 256 << 20) == "256MiB" && SizeText.format(bytes: 1025) == "1025B")
    }

    @Test func suggestsOnlyWhatIsNear() {
        let known = ["trustDomain", "node", "log", "proxy"]
        #expect(Suggestion.nearest(to: "trustdomain", among: known) == "trustDomain")
        #expect(Suggestion.nearest(to: "ndoe", among: known) == "node")
        #expect(Suggestion.nearest(to: "proxies", among: known) == nil)
        #expect(Suggestion.nearest(to: "xyz", among: known) == nil)
        #expect(Suggestion.nearest(to: String(repeating: "n", count: 100_000), among: known) == nil)
    }
}
