import Glibc
import LinuxIO

/// A file that only grows, readable by its owner.
final class AppendingFile {
    private let descriptor: FileDescriptor
    private let path: String

    init(_ path: String) throws(IOError) {
        let number = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o600)
        guard number >= 0 else { throw .last("open", object: path) }
        descriptor = FileDescriptor(owning: number)
        self.path = path
    }

    /// Cuts off a line without an end, which a crash left, and returns the size.
    func finishLastLine() throws(IOError) -> Int {
        var size = try seek(to: 0, from: SEEK_END)
        var byte: UInt8 = 0
        while size > 0 {
            guard pread(descriptor.number, &byte, 1, off_t(size - 1)) == 1 else {
                throw .last("pread", object: path)
            }
            if byte == 0x0a { break }
            size -= 1
        }
        guard ftruncate(descriptor.number, off_t(size)) == 0 else { throw .last("ftruncate", object: path) }
        return size
    }

    /// All or nothing: a write that did not fit is taken back.
    func append(_ bytes: [UInt8]) throws(IOError) {
        let before = try seek(to: 0, from: SEEK_END)
        let count = write(descriptor.number, bytes, bytes.count)
        guard count != bytes.count else { return }
        let code = count < 0 ? errno : ENOSPC
        _ = ftruncate(descriptor.number, off_t(before))
        throw IOError("write", code: code, object: path)
    }

    /// The last bytes of the file.
    static func tail(_ path: String, bytesMax: Int) throws(IOError) -> [UInt8] {
        let number = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW)
        guard number >= 0 else { throw .last("open", object: path) }
        defer { close(number) }
        let size = lseek(number, 0, SEEK_END)
        guard size >= 0 else { throw .last("lseek", object: path) }
        let wanted = min(Int(size), bytesMax)
        var bytes = [UInt8](repeating: 0, count: wanted)
        let count = pread(number, &bytes, wanted, size - off_t(wanted))
        guard count >= 0 else { throw .last("pread", object: path) }
        return Array(bytes.prefix(count))
    }

    static func rename(_ path: String, to other: String) throws(IOError) {
        guard Glibc.rename(path, other) == 0 else { throw .last("rename", object: path) }
    }

    // MARK: private

    private func seek(to offset: Int, from base: Int32) throws(IOError) -> Int {
        let size = lseek(descriptor.number, off_t(offset), base)
        guard size >= 0 else { throw .last("lseek", object: path) }
        return size
    }
}
