import CLinux
import Glibc

/// Takes from the process what it does not need: it parses what strangers send and holds keys.
enum Hardening {
    /// At start: no core file that could hold keys, no other process of the same user may look into this one.
    static func prepare() {
        var none = rlimit(rlim_cur: 0, rlim_max: 0)
        setrlimit(__rlimit_resource_t(RLIMIT_CORE.rawValue), &none)
        clinux_forbid_inspection()
        raiseDescriptorLimit()
    }

    /// Once the loops run, before they have a listener: only the system calls that serving needs. A process that can't
    /// be confined ends here: it would hold keys and parse what strangers send with nothing between it and the node.
    static func confineOrEnd() {
        let code = clinux_confine_proxy()
        guard code != 0 else { return }
        StandardError.write("proxy: ends, it can't be confined (seccomp): \(String(cString: strerror(code)))")
        _exit(1)
    }

    // MARK: private

    /// meshd's settings say how many descriptors count as too many; the soft limit must not come first.
    private static func raiseDescriptorLimit() {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return }
        limit.rlim_cur = limit.rlim_max
        setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    }
}
