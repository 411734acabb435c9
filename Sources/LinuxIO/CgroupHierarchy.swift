import Glibc

/// The cgroup v2 hierarchy as this process sees it. Paths are absolute from the hierarchy's root, as /proc/PID/cgroup
/// shows them, `/` for the root itself.
package struct CgroupHierarchy: Equatable, Sendable {
    /// Where it is mounted: /sys/fs/cgroup, or /sys/fs/cgroup/unified beside version 1.
    package var mountPoint: String

    package init(mountPoint: String) { self.mountPoint = mountPoint }

    /// Finds the mount in /proc/self/mountinfo; ENODEV when cgroup v2 is not mounted.
    package static func locate(mountinfo: String? = nil) throws(IOError) -> CgroupHierarchy {
        let text: String
        if let mountinfo { text = mountinfo } else { text = try TextFile.read("/proc/self/mountinfo") }
        var found: String?
        for line in text.split(separator: "\n") {
            let fields = line.split(separator: " ")
            guard fields.count > 6, let dash = fields.firstIndex(of: "-"), dash + 1 < fields.count,
                fields[dash + 1] == "cgroup2"
            else { continue }
            // Prefer the mount of the whole hierarchy to one of a subtree.
            if fields[3] == "/" { return CgroupHierarchy(mountPoint: unescape(fields[4])) }
            found = found ?? unescape(fields[4])
        }
        guard let found else { throw IOError("cgroup2", code: ENODEV, object: "/proc/self/mountinfo") }
        return CgroupHierarchy(mountPoint: found)
    }

    /// The cgroup that people name by its directory or by its path from the hierarchy's root.
    package func path(of name: String) -> String {
        var path = name
        if name == mountPoint || name.hasPrefix(mountPoint + "/") { path.removeFirst(mountPoint.count) }
        while path.hasSuffix("/") { path.removeLast() }
        return path.isEmpty ? "/" : path
    }

    package func directory(_ path: String) -> String { path == "/" ? mountPoint : mountPoint + path }

    /// The number that the kernel side knows it by. On cgroup v2 that is the directory's inode number (64-bit kernels).
    package func id(of path: String) throws(IOError) -> UInt64 {
        var status = stat()
        guard stat(directory(path), &status) == 0 else { throw .last("stat", object: directory(path)) }
        return UInt64(status.st_ino)
    }

    /// Creates it and what is missing above it.
    package func create(_ path: String) throws(IOError) { try TextFile.createDirectory(directory(path)) }

    /// Removes an empty one; no error when it is not there.
    package func remove(_ path: String) throws(IOError) {
        guard rmdir(directory(path)) == 0 || errno == ENOENT else { throw .last("rmdir", object: directory(path)) }
    }

    package func children(of path: String) throws(IOError) -> [String] {
        let prefix = path == "/" ? "/" : path + "/"
        return try TextFile.list(directory(path)).filter(\.isDirectory).map { prefix + $0.name }.sorted()
    }

    /// Processes in this very cgroup, without those of its children. 0 stands for one of another pid namespace.
    package func processes(in path: String) throws(IOError) -> [Int32] {
        try TextFile.read(directory(path) + "/cgroup.procs", limitBytes: 8 << 20)
            .split(separator: "\n").compactMap { Int32($0) }
    }

    /// Whether it or a descendant has a live process.
    package func isPopulated(_ path: String) throws(IOError) -> Bool {
        try TextFile.read(directory(path) + "/cgroup.events").split(separator: "\n").contains { $0 == "populated 1" }
    }

    package func procsFile(_ path: String) -> String { directory(path) + "/cgroup.procs" }

    /// Moves a process (0: the caller) there.
    package func move(_ pid: Int32 = 0, to path: String) throws(IOError) {
        try TextFile.write("\(pid)", to: procsFile(path))
    }

    /// The cgroup that a process is in.
    package static func path(ofProcess pid: Int32) throws(IOError) -> String {
        for line in try TextFile.read("/proc/\(pid)/cgroup").split(separator: "\n") where line.hasPrefix("0::") {
            return String(line.dropFirst(3))
        }
        throw IOError("cgroup", code: ENODEV, object: "\(pid)")
    }

    /// mountinfo writes space, tab, newline and backslash as octal.
    private static func unescape(_ field: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(field.utf8)[...]
        while let first = rest.first {
            let digits = rest.dropFirst().prefix(3)
            if first == UInt8(ascii: "\\"), digits.count == 3, digits.allSatisfy({ (48...55).contains($0) }) {
                bytes.append(digits.reduce(0) { $0 &* 8 &+ ($1 - 48) })
                rest = rest.dropFirst(4)
            } else {
                bytes.append(first)
                rest = rest.dropFirst()
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
