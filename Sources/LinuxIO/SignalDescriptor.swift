import CLinux
import Glibc

/// Signals as readable events: they are blocked for the process from the first use on, so create it before threads.
package struct SignalDescriptor: ~Copyable {
    package let descriptor: FileDescriptor

    package init(_ signals: [Int32]) throws(IOError) {
        let number = clinux_signalfd(signals, Int32(signals.count))
        guard number >= 0 else { throw .last("signalfd") }
        descriptor = FileDescriptor(owning: number)
    }

    /// The next pending signal; nil when there is none.
    package borrowing func next() throws(IOError) -> Int32? {
        let signal = clinux_read_signal(descriptor.number)
        guard signal >= 0 else { throw .last("read", object: "signalfd") }
        return signal == 0 ? nil : signal
    }
}
