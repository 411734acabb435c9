import Glibc
import LinuxIO
import MeshModel
import OpenSSLTLS

/// A certificate, key or directory that can't be used: which file, and why.
package struct IdentityError: Error, Equatable, CustomStringConvertible {
    package var file: String
    package var cause: String

    package init(_ file: String, _ cause: String) {
        self.file = file
        self.cause = cause
    }

    init(_ error: IOError, _ file: String) {
        self.init(file, "\(error.call): \(String(cString: strerror(error.code)))")
    }

    package var description: String { "\(file): \(cause)" }
}

/// Reading and writing files that hold certificates and keys.
enum IdentityFiles {
    /// Of a chain, a bundle or a key. The largest bundles in use have some 150 authorities.
    static let bytesMax = 1 << 20

    /// Reads a file into memory that is overwritten at the end, with no copy besides. `isPrivate` is false where
    /// others than the owner may read it.
    static func read(_ path: String) throws(IdentityError) -> (bytes: SecretBytes, isPrivate: Bool) {
        let number = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard number >= 0 else { throw IdentityError(.last("open"), path) }
        let file = FileDescriptor(owning: number)
        var facts = stat()
        guard fstat(file.number, &facts) == 0 else { throw IdentityError(.last("fstat"), path) }
        guard facts.st_mode & S_IFMT == S_IFREG else { throw IdentityError(path, "not a regular file") }
        guard facts.st_size <= bytesMax else { throw IdentityError(path, "larger than \(bytesMax) bytes") }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(facts.st_size), alignment: 1)
        defer {
            SecretBytes.cleanse(buffer)
            buffer.deallocate()
        }
        var filled = 0
        while filled < buffer.count {
            let room = UnsafeMutableRawBufferPointer(rebasing: buffer[filled...])
            let count: Int?
            do throws(IOError) { count = try file.read(into: room) } catch { throw IdentityError(error, path) }
            guard let count, count > 0 else { break }
            filled += count
        }
        let content = SecretBytes(copying: UnsafeRawBufferPointer(rebasing: buffer[..<filled]))
        return (content, facts.st_mode & 0o077 == 0)
    }

    /// For what is no secret.
    static func readPublic(_ path: String) throws(IdentityError) -> [UInt8] {
        try read(path).bytes.withBytes { Array($0) }
    }

    /// Writes a file of mode 0600 by temporary file, fsync and rename: a crash leaves the old or the new content.
    /// `replaces`: false refuses to touch one that exists.
    static func write(_ path: String, _ content: SecretBytes, replaces: Bool) throws(IdentityError) {
        let temporary = path + ".new"
        // One left over by a crash may have any mode.
        _ = unlink(temporary)
        let number = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard number >= 0 else { throw IdentityError(.last("open"), temporary) }
        defer { _ = unlink(temporary) }
        let file = FileDescriptor(owning: number)
        try content.withBytes { bytes throws(IdentityError) in
            var written = 0
            while written < bytes.count {
                let rest = UnsafeRawBufferPointer(rebasing: bytes[written...])
                let count: Int?
                do throws(IOError) { count = try file.write(rest) } catch { throw IdentityError(error, temporary) }
                guard let count, count > 0 else { throw IdentityError(temporary, "write: nothing written") }
                written += count
            }
        }
        guard fchmod(file.number, 0o600) == 0, fsync(file.number) == 0 else {
            throw IdentityError(.last("fsync"), temporary)
        }
        // link() fails where the name is taken, rename() would replace it.
        guard (replaces ? rename(temporary, path) : link(temporary, path)) == 0 else {
            throw IdentityError(.last(replaces ? "rename" : "link"), path)
        }
        try synchronizeDirectory(of: path)
    }

    /// Through symbolic links too, as mounted volumes use them.
    static func isDirectory(_ path: String) -> Bool {
        var facts = stat()
        return stat(path, &facts) == 0 && facts.st_mode & S_IFMT == S_IFDIR
    }

    static func makeDirectory(_ path: String, mode: UInt32) throws(IdentityError) {
        do throws(IOError) { try TextFile.createDirectory(path, mode: mode) } catch {
            throw IdentityError(error, error.object.isEmpty ? path : error.object)
        }
    }

    private static func synchronizeDirectory(of path: String) throws(IdentityError) {
        let slash = path.lastIndex(of: "/")
        let name = slash.map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let number = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard number >= 0 else { throw IdentityError(.last("open"), name) }
        let directory = FileDescriptor(owning: number)
        guard fsync(directory.number) == 0 else { throw IdentityError(.last("fsync"), name) }
    }
}

/// 2026-01-31T12:00:00Z.
package func timeText(_ seconds: Int64) -> String {
    var (time, parts) = (time_t(seconds), tm())
    guard gmtime_r(&time, &parts) != nil else { return "\(seconds)" }
    return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 32) { text in
        let count = strftime(text.baseAddress, text.count, "%Y-%m-%dT%H:%M:%SZ", &parts)
        return String(decoding: text.prefix(count).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
