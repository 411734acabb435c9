// BPFRuntime loads the kernel side of Culvert, attaches and pins it, and gives its maps, events and live counters to
// Swift as typed values. It owns every libbpf handle; no pointer or descriptor of libbpf leaves it. What belongs into the
// maps is Interception's business.

import Glibc

/// Why the kernel side could not be loaded or used, with what to do about it.
package struct BPFError: Error, Equatable, CustomStringConvertible {
    /// What was tried.
    package var operation: String
    package var code: Int32
    /// The program, map or path that it was about.
    package var object: String
    /// The verifier's or libbpf's last words; empty when it had none.
    package var details: String

    init(_ operation: String, code: Int32, object: String = "", details: String = "") {
        self.operation = operation
        self.code = code
        self.object = object
        self.details = details
    }

    package var description: String {
        var text = "\(operation)\(object.isEmpty ? "" : " \(object)"): \(String(cString: strerror(code)))"
        if let hint { text += "; \(hint)" }
        if !details.isEmpty { text += " (\(details))" }
        return text
    }

    /// The likely cause and the way out.
    package var hint: String? {
        switch (operation, code) {
        case ("find kernel types", _):
            "the kernel has no BTF: Culvert needs Linux 6.1 or later with CONFIG_DEBUG_INFO_BTF"
        case ("start on kernel", _): "Culvert needs Linux \(KernelVersion.oldest) or later"
        case ("check pin directory", _): "mount a BPF file system there: mount -t bpf bpf \(object)"
        case (_, EPERM), (_, EACCES):
            "the kernel refuses BPF: run as root with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and check that kernel "
                + "lockdown is not 'confidentiality'"
        case ("load", EINVAL), ("load", ENOENT), ("load", ESRCH), ("load", EOPNOTSUPP):
            "Culvert needs Linux 6.1 or later; this kernel lacks something that the programs use"
        default: nil
        }
    }
}
