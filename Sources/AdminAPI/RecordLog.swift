package import LinuxIO
import Telemetry

/// The last connection records on disk: JSON objects, one a line, in two files of half the size each. When the newer
/// one is full it becomes the older, and the older is gone: never more than the bound, never a record cut in two.
/// A failing disk never stops meshd: what can't be written is counted. Nothing waits for the disk (no fsync): what meshd
/// wrote outlives meshd, a power cut may take the last seconds.
package final class RecordLog {
    /// Read back at once, at most: meshd's only thread does it.
    package static let readBytesMax = 4 << 20

    private let path: String
    private let halfBytesMax: Int
    private var file: AppendingFile?
    private var size = 0
    /// Records that were not written.
    package private(set) var lost: UInt64 = 0
    /// Of the last write that failed; nil while all is well.
    package private(set) var failure: IOError?

    private var older: String { path + ".1" }

    /// Keeps at most `bytesMax` bytes as `directory/records.jsonl` and `records.jsonl.1`.
    package init(directory: String, bytesMax: UInt64) {
        path = directory + "/records.jsonl"
        halfBytesMax = Int(clamping: bytesMax / 2)
    }

    /// Writes the records with as few system calls as it can.
    package func append(_ records: [[UInt8]]) {
        var chunk: [UInt8] = []
        var count: UInt64 = 0
        for record in records {
            guard record.count < halfBytesMax else {
                lost += 1
                continue
            }
            if size + chunk.count + record.count + 1 > halfBytesMax || chunk.count >= Self.chunkBytes {
                write(chunk, count: count)
                (chunk, count) = ([], 0)
            }
            chunk += record
            chunk.append(0x0a)
            count += 1
        }
        write(chunk, count: count)
    }

    /// The newest `limit` records, newest first; fewer when they are more than `readBytesMax`.
    package func newest(limit: Int) -> [[UInt8]] {
        var records: [[UInt8]] = []
        _ = readBack { record in
            if records.count < limit { records.append(Array(record)) }
            return records.count < limit
        }
        return records
    }

    /// Those with this time or a later one (milliseconds from 1970), newest first. `more`: there are older ones beyond
    /// `readBytesMax`.
    package func since(_ milliseconds: Int64) -> (records: [[UInt8]], more: Bool) {
        var records: [[UInt8]] = []
        let isWhole = readBack { record in
            guard let time = ConnectionRecord.time(in: record) else { return true }
            if time >= milliseconds { records.append(Array(record)) }
            return time >= milliseconds - Self.disorderMilliseconds
        }
        return (records, !isWhole)
    }

    // MARK: private

    /// Records are written when their last figures are there, not in the order in which connections ended.
    private static let disorderMilliseconds: Int64 = 10_000

    /// Hands out records, newest first, until `body` has enough. False when older ones were left unread before that.
    private func readBack(_ body: (ArraySlice<UInt8>) -> Bool) -> Bool {
        var room = Self.readBytesMax
        for name in [path, older] {
            guard room > 0 else { return false }
            guard let bytes = try? AppendingFile.tail(name, bytesMax: room) else { continue }
            room -= bytes.count
            var end = bytes.count
            while end > 0 {
                // What follows the last newline was cut off by a crash.
                guard let newline = bytes[..<end].lastIndex(of: 0x0a) else { break }
                let before = bytes[..<newline].lastIndex(of: 0x0a)
                // Without a newline before it the record may begin outside of what was read.
                guard before != nil || room > 0 else { return false }
                let start = before.map { $0 + 1 } ?? 0
                guard body(bytes[start..<newline]) else { return true }
                end = start
            }
        }
        return true
    }

    private static let chunkBytes = 65_536

    private func write(_ chunk: [UInt8], count: UInt64) {
        guard !chunk.isEmpty else { return }
        do throws(IOError) {
            if file == nil { try open() }
            if size + chunk.count > halfBytesMax { try turn() }
            try file?.append(chunk)
            size += chunk.count
            failure = nil
        } catch {
            lost += count
            failure = error
            file = nil
        }
    }

    private func open() throws(IOError) {
        let opened = try AppendingFile(path)
        size = try opened.finishLastLine()
        file = opened
    }

    private func turn() throws(IOError) {
        file = nil
        try AppendingFile.rename(path, to: older)
        try open()
    }
}
