// LinuxIO wraps the system calls that the rest of Culvert uses: descriptors that close themselves, epoll, timers,
// seqpacket sockets with descriptors beside the bytes, memfd, inotify, network namespaces, processes. No bare file
// descriptor and no errno leaves it. It decides nothing: who may open what is its callers' business.

import Glibc

/// A failed system call: which, on what, why.
package struct IOError: Error, Equatable, CustomStringConvertible {
    /// The call's name as in section 2 of the manual.
    package var call: String
    package var code: Int32
    /// The path or peer that it was about; empty when the call says enough.
    package var object: String

    package init(_ call: String, code: Int32, object: String = "") {
        self.call = call
        self.code = code
        self.object = object
    }

    /// The error of the call that has just failed on this thread.
    package static func last(_ call: String, object: String = "") -> IOError {
        IOError(call, code: errno, object: object)
    }

    package var description: String {
        let cause = String(cString: strerror(code))
        return object.isEmpty ? "\(call): \(cause)" : "\(call) \(object): \(cause)"
    }
}
