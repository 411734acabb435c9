import CLinux
import Glibc

/// A memory file whose content can no longer change: what is passed to a process that maps it without trusting the
/// sender's later behaviour, and that the sender need not trust with write access.
package struct SealedMemory: ~Copyable {
    package let descriptor: FileDescriptor
    package let count: Int

    /// A sealed copy of `bytes`. `name` shows in /proc/PID/maps.
    package init(name: String, bytes: [UInt8]) throws(IOError) {
        let result: Result<Int32, IOError> = bytes.withUnsafeBytes { bytes in
            do throws(IOError) { return .success(try SealedMemory.make(name: name, bytes: bytes)) } catch {
                return .failure(error)
            }
        }
        descriptor = FileDescriptor(owning: try result.get())
        count = bytes.count
    }

    package init(name: String, bytes: UnsafeRawBufferPointer) throws(IOError) {
        descriptor = FileDescriptor(owning: try SealedMemory.make(name: name, bytes: bytes))
        count = bytes.count
    }

    /// Takes a received descriptor: it must be a memory file with every seal, or it could change while it is read.
    package init(_ descriptor: consuming FileDescriptor) throws(IOError) {
        let seals = clinux_get_seals(descriptor.number)
        guard seals >= 0 else { throw .last("fcntl") }
        guard seals & SealedMemory.allSeals == SealedMemory.allSeals else { throw IOError("seals", code: EPERM) }
        var status = stat()
        guard fstat(descriptor.number, &status) == 0 else { throw .last("fstat") }
        count = Int(status.st_size)
        self.descriptor = descriptor
    }

    /// Gives the descriptor's number away: the caller closes it.
    package consuming func release() -> Int32 { descriptor.release() }

    /// Maps it for reading. The mapping outlives the descriptor.
    package borrowing func map() throws(IOError) -> MemoryMapping {
        guard count > 0 else { throw IOError("mmap", code: EINVAL) }
        let address = mmap(nil, count, PROT_READ, MAP_SHARED, descriptor.number, 0)
        guard let address, address != MAP_FAILED else { throw .last("mmap") }
        return MemoryMapping(bytes: UnsafeRawBufferPointer(start: address, count: count))
    }

    private static func make(name: String, bytes: UnsafeRawBufferPointer) throws(IOError) -> Int32 {
        let number = clinux_memfd(name)
        guard number >= 0 else { throw .last("memfd_create") }
        let file = FileDescriptor(owning: number)
        var written = 0
        while written < bytes.count {
            let step = try file.write(UnsafeRawBufferPointer(rebasing: bytes[written...])) ?? 0
            guard step > 0 else { throw IOError("write", code: EIO, object: name) }
            written += step
        }
        guard clinux_add_seals(number, SealedMemory.allSeals) == 0 else { throw .last("fcntl", object: name) }
        return file.release()
    }

    private static let allSeals =
        CLINUX_SEAL_SEAL | CLINUX_SEAL_SHRINK | CLINUX_SEAL_GROW | CLINUX_SEAL_WRITE
}

/// Mapped pages, unmapped with the last reference.
package final class MemoryMapping: @unchecked Sendable {
    /// Valid while this object lives. Read-only pages of a sealed file: any thread may read them.
    package let bytes: UnsafeRawBufferPointer

    fileprivate init(bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    deinit { munmap(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count) }
}
