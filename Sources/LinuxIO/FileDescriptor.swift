import Glibc

/// A file descriptor with one owner: it is closed when the value ends.
package struct FileDescriptor: ~Copyable {
    /// The number, to hand to a system call while this value lives.
    package let number: Int32

    /// Takes over `number`, which must be open and nobody else's.
    package init(owning number: Int32) {
        precondition(number >= 0)
        self.number = number
    }

    deinit { _ = Glibc.close(number) }

    /// Gives the number away: the caller closes it.
    package consuming func release() -> Int32 {
        let number = number
        discard self
        return number
    }

    package borrowing func duplicate() throws(IOError) -> FileDescriptor {
        let copy = fcntl(number, F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else { throw .last("fcntl") }
        return FileDescriptor(owning: copy)
    }

    /// Reads at most `buffer.count` bytes; 0 at the end, nil when it would block.
    package borrowing func read(into buffer: UnsafeMutableRawBufferPointer) throws(IOError) -> Int? {
        while true {
            let count = Glibc.read(number, buffer.baseAddress, buffer.count)
            if count >= 0 { return count }
            switch errno {
            case EINTR: continue
            case EAGAIN: return nil
            default: throw .last("read")
            }
        }
    }

    /// Writes what the kernel takes now; nil when it would block.
    package borrowing func write(_ buffer: UnsafeRawBufferPointer) throws(IOError) -> Int? {
        while true {
            let count = Glibc.write(number, buffer.baseAddress, buffer.count)
            if count >= 0 { return count }
            switch errno {
            case EINTR: continue
            case EAGAIN: return nil
            default: throw .last("write")
            }
        }
    }

    package borrowing func setNonBlocking() throws(IOError) {
        let flags = fcntl(number, F_GETFL)
        guard flags >= 0, fcntl(number, F_SETFL, flags | O_NONBLOCK) >= 0 else { throw .last("fcntl") }
    }
}
