import Glibc

/// The running kernel's version: what is older than 6.1 lacks helpers that the programs call, and is refused by name
/// before the verifier would say so at length.
struct KernelVersion: Comparable, CustomStringConvertible {
    static let oldest = KernelVersion(major: 6, minor: 1)

    var major: Int
    var minor: Int

    init(major: Int, minor: Int) {
        self.major = major
        self.minor = minor
    }

    /// Of a release such as `6.1.0-56-amd64`.
    init?(release: String) {
        let parts = release.split(separator: ".", maxSplits: 2).map { $0.prefix { $0.isASCII && $0.isNumber } }
        guard parts.count >= 2, let major = Int(parts[0]), let minor = Int(parts[1]) else { return nil }
        self.init(major: major, minor: minor)
    }

    var description: String { "\(major).\(minor)" }

    static func < (left: KernelVersion, right: KernelVersion) -> Bool {
        (left.major, left.minor) < (right.major, right.minor)
    }

    /// The release string of uname(2).
    static func runningRelease() -> String {
        var names = utsname()
        guard uname(&names) == 0 else { return "" }
        return withUnsafeBytes(of: names.release) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    /// Throws for a kernel that is too old; a release that can't be read is left to the verifier.
    static func check(release: String) throws(BPFError) {
        guard let version = KernelVersion(release: release), version < oldest else { return }
        throw BPFError("start on kernel", code: EOPNOTSUPP, object: release)
    }
}
