import CLinux
import Glibc

/// Changes of files and directories, by inotify.
package struct FileWatch: ~Copyable {
    package let descriptor: FileDescriptor

    package struct Changes: OptionSet, Sendable {
        package let rawValue: UInt32
        package init(rawValue: UInt32) { self.rawValue = rawValue }
        package static let modified = Changes(rawValue: UInt32(IN_MODIFY))
        package static let closedAfterWrite = Changes(rawValue: UInt32(IN_CLOSE_WRITE))
        package static let created = Changes(rawValue: UInt32(IN_CREATE))
        package static let deleted = Changes(rawValue: UInt32(IN_DELETE))
        package static let movedIn = Changes(rawValue: UInt32(IN_MOVED_TO))
        package static let movedOut = Changes(rawValue: UInt32(IN_MOVED_FROM))
        package static let attributes = Changes(rawValue: UInt32(IN_ATTRIB))
        package static let selfDeleted = Changes(rawValue: UInt32(IN_DELETE_SELF))
        package static let selfMoved = Changes(rawValue: UInt32(IN_MOVE_SELF))
        /// Whatever may change what a reader of the directory's files sees.
        package static let content: Changes = [
            .closedAfterWrite, .created, .deleted, .movedIn, .movedOut, .selfDeleted, .selfMoved,
        ]
        /// Only reported: events were lost, look at everything again.
        package static let overflow = Changes(rawValue: UInt32(IN_Q_OVERFLOW))
        /// Only reported: the watch is gone.
        package static let ignored = Changes(rawValue: UInt32(IN_IGNORED))
    }

    /// Names what is watched, within this value.
    package struct WatchID: Hashable, Sendable {
        fileprivate var value: Int32
    }

    package struct Event: Equatable, Sendable {
        package var watch: WatchID
        package var changes: Changes
        /// The entry within a watched directory, or empty.
        package var name: String
    }

    package init() throws(IOError) {
        let number = inotify_init1(Int32(IN_NONBLOCK | IN_CLOEXEC))
        guard number >= 0 else { throw .last("inotify_init1") }
        descriptor = FileDescriptor(owning: number)
    }

    package borrowing func add(_ path: String, _ changes: Changes) throws(IOError) -> WatchID {
        let watch = inotify_add_watch(descriptor.number, path, changes.rawValue)
        guard watch >= 0 else { throw .last("inotify_add_watch", object: path) }
        return WatchID(value: watch)
    }

    package borrowing func remove(_ watch: WatchID) { _ = inotify_rm_watch(descriptor.number, watch.value) }

    /// What happened since the last call; empty when nothing did.
    package borrowing func events() throws(IOError) -> [Event] {
        var events: [Event] = []
        var failure: IOError?
        withUnsafeTemporaryAllocation(byteCount: 8_192, alignment: 8) { buffer in
            while true {
                let count: Int?
                do throws(IOError) { count = try descriptor.read(into: buffer) } catch {
                    failure = error
                    return
                }
                guard let count, count > 0 else { return }
                FileWatch.parse(UnsafeRawBufferPointer(rebasing: buffer[..<count]), into: &events)
            }
        }
        if let failure { throw failure }
        return events
    }

    private static func parse(_ bytes: UnsafeRawBufferPointer, into events: inout [Event]) {
        let header = MemoryLayout<inotify_event>.size
        var offset = 0
        while offset + header <= bytes.count {
            let watch = bytes.loadUnaligned(fromByteOffset: offset, as: Int32.self)
            let mask = bytes.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self)
            let length = Int(bytes.loadUnaligned(fromByteOffset: offset + 12, as: UInt32.self))
            let end = min(offset + header + length, bytes.count)
            let name = bytes[(offset + header)..<end].prefix { $0 != 0 }
            events.append(
                Event(
                    watch: WatchID(value: watch), changes: Changes(rawValue: mask),
                    name: String(decoding: name, as: UTF8.self)))
            offset = end
        }
    }
}
