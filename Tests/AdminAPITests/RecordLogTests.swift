import AdminAPI
import Glibc
import LinuxIO
import Telemetry
import Testing

@Suite struct RecordLogTests {
    static func directory(_ name: String) throws -> String {
        let path = "/tmp/culvert-records-\(getpid())-\(name)"
        try TextFile.createDirectory(path)
        return path
    }

    static func remove(_ directory: String) {
        for name in ["records.jsonl", "records.jsonl.1"] { unlink("\(directory)/\(name)") }
        rmdir(directory)
    }

    static func size(_ path: String) -> Int {
        var facts = stat()
        return stat(path, &facts) == 0 ? Int(facts.st_size) : 0
    }

    @Test func newestRecordsAreKeptWithinTheBound() throws {
        let directory = try Self.directory("bound")
        defer { Self.remove(directory) }
        let log = RecordLog(directory: directory, bytesMax: 1_000)
        for first in stride(from: 0, to: 500, by: 20) {
            log.append((first..<first + 20).map { Array("{\"n\":\($0)}".utf8) })
        }
        #expect(log.lost == 0 && log.failure == nil)
        #expect(
            Self.size("\(directory)/records.jsonl") + Self.size("\(directory)/records.jsonl.1") <= 1_000)
        let newest = log.newest(limit: 60).map { String(decoding: $0, as: UTF8.self) }
        #expect(newest.count >= 50 && newest.first == "{\"n\":499}")
        #expect(newest == (0..<newest.count).map { "{\"n\":\(499 - $0)}" })
    }

    @Test func recordThatACrashCutIsTakenOff() throws {
        let directory = try Self.directory("crash")
        defer { Self.remove(directory) }
        try TextFile.replace("\(directory)/records.jsonl", with: Array("{\"n\":1}\n{\"n\":".utf8))
        let log = RecordLog(directory: directory, bytesMax: 1_000)
        #expect(log.newest(limit: 9).count == 1)
        log.append([Array("{\"n\":2}".utf8)])
        #expect(log.newest(limit: 9).map { String(decoding: $0, as: UTF8.self) } == ["{\"n\":2}", "{\"n\":1}"])
    }

    @Test func onlyTheEndOfABigLogIsReadBack() throws {
        let directory = try Self.directory("tail")
        defer { Self.remove(directory) }
        let log = RecordLog(directory: directory, bytesMax: 64 << 20)
        let filler = String(repeating: "x", count: 60_000)
        for number in 0..<100 { log.append([Array("{\"n\":\(number),\"f\":\"\(filler)\"}".utf8)]) }
        let newest = log.newest(limit: 100)
        #expect(newest.count == RecordLog.readBytesMax / (filler.utf8.count + 15))
        #expect(newest.allSatisfy { $0.first == 0x7b && $0.last == 0x7d })
        #expect(newest.first?.starts(with: "{\"n\":99,".utf8) == true)
    }

    @Test func recordsOfAWindowAreReadBackAndWhatIsMissingIsSaid() throws {
        let directory = try Self.directory("window")
        defer { Self.remove(directory) }
        let log = RecordLog(directory: directory, bytesMax: 64 << 20)
        func record(_ id: UInt64, at milliseconds: Int64, padding: Int = 0) -> [UInt8] {
            var flow = FlowRow()
            (flow.id, flow.command) = (id, String(repeating: "x", count: padding))
            return ConnectionRecord(flow, endedWallMilliseconds: milliseconds).jsonBytes
        }
        // The order of writing is not that of the ends.
        log.append((0..<100).map { record(UInt64($0), at: 1_000_000 + Int64($0 ^ 3) * 1_000) })
        let (some, more) = log.since(1_090_000)
        #expect(some.count == 10 && !more)
        #expect(some.allSatisfy { ConnectionRecord.time(in: $0[...]) ?? 0 >= 1_090_000 })
        #expect(log.since(0).records.count == 100 && !log.since(0).more)
        log.append((0..<100).map { record(UInt64($0), at: 2_000_000, padding: 50_000) })
        #expect(log.since(0).more && !log.since(2_100_000).more)
    }

    @Test func failingDiskIsCountedAndRecovered() throws {
        let directory = try Self.directory("disk")
        rmdir(directory)
        let log = RecordLog(directory: directory, bytesMax: 1_000)
        log.append([[0x7b, 0x7d]])
        #expect(log.lost == 1 && log.failure?.code == ENOENT)
        try TextFile.createDirectory(directory)
        defer { Self.remove(directory) }
        log.append([[0x7b, 0x7d]])
        #expect(log.lost == 1 && log.failure == nil && log.newest(limit: 5).count == 1)
    }
}
