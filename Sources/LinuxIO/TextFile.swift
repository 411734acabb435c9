import Glibc

/// Small files as a whole: /proc, sysctls, cgroup files, state that is replaced at once.
package enum TextFile {
    /// At most `limitBytes`; a longer file is an EFBIG error.
    package static func read(_ path: String, limitBytes: Int = 1 << 20) throws(IOError) -> String {
        String(decoding: try readBytes(path, limitBytes: limitBytes), as: UTF8.self)
    }

    package static func readBytes(_ path: String, limitBytes: Int) throws(IOError) -> [UInt8] {
        let number = open(path, O_RDONLY | O_CLOEXEC)
        guard number >= 0 else { throw .last("open", object: path) }
        let file = FileDescriptor(owning: number)
        var content: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4_096)
        while true {
            let count = Glibc.read(file.number, &chunk, chunk.count)
            if count < 0 {
                if errno == EINTR { continue }
                throw .last("read", object: path)
            }
            if count == 0 { return content }
            content += chunk[..<count]
            guard content.count <= limitBytes else { throw IOError("read", code: EFBIG, object: path) }
        }
    }

    /// Writes an existing file of the kernel's (sysctl, cgroup) in one call, as those want it.
    package static func write(_ text: String, to path: String) throws(IOError) {
        let number = open(path, O_WRONLY | O_CLOEXEC)
        guard number >= 0 else { throw .last("open", object: path) }
        let file = FileDescriptor(owning: number)
        let bytes = Array(text.utf8)
        guard Glibc.write(file.number, bytes, bytes.count) == bytes.count else { throw .last("write", object: path) }
    }

    /// Replaces a file of ours: temporary file, fsync, rename, fsync of the directory. A crash leaves the old or the
    /// new content, never part of one.
    package static func replace(_ path: String, with bytes: [UInt8], mode: UInt32 = 0o600) throws(IOError) {
        let temporary = path + ".new"
        let number = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode)
        guard number >= 0 else { throw .last("open", object: temporary) }
        let file = FileDescriptor(owning: number)
        var written = 0
        while written < bytes.count {
            let count = bytes[written...].withUnsafeBytes { Glibc.write(file.number, $0.baseAddress, $0.count) }
            if count < 0 && errno == EINTR { continue }
            guard count > 0 else { throw .last("write", object: temporary) }
            written += count
        }
        guard fsync(file.number) == 0 else { throw .last("fsync", object: temporary) }
        guard rename(temporary, path) == 0 else { throw .last("rename", object: path) }
        let slash = path.lastIndex(of: "/") ?? path.startIndex
        let directory = open(slash == path.startIndex ? "/" : String(path[..<slash]), O_RDONLY | O_CLOEXEC)
        guard directory >= 0 else { throw .last("open", object: path) }
        _ = fsync(directory)
        _ = close(directory)
    }

    /// No error when there is none.
    package static func remove(_ path: String) { unlink(path) }

    /// The names in a directory, without `.` and `..`, unsorted.
    package static func list(_ path: String) throws(IOError) -> [(name: String, isDirectory: Bool)] {
        guard let directory = opendir(path) else { throw .last("opendir", object: path) }
        defer { closedir(directory) }
        var entries: [(name: String, isDirectory: Bool)] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
                String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name == "." || name == ".." { continue }
            entries.append((name, entry.pointee.d_type == UInt8(DT_DIR)))
        }
        return entries
    }

    /// Creates the directory and what is missing above it.
    package static func createDirectory(_ path: String, mode: UInt32 = 0o755) throws(IOError) {
        if mkdir(path, mode) == 0 || errno == EEXIST { return }
        guard errno == ENOENT, let slash = path.lastIndex(of: "/"), slash != path.startIndex else {
            throw .last("mkdir", object: path)
        }
        try createDirectory(String(path[..<slash]), mode: mode)
        guard mkdir(path, mode) == 0 || errno == EEXIST else { throw .last("mkdir", object: path) }
    }
}
