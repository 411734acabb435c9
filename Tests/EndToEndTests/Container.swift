import Glibc

/// Real podman, rootful, in node a's network namespace, with an image made of nothing but busybox. Its storage is the
/// lab's, its cgroups lie where workloads do.
enum Container {
    private static let state = "\(Lab.state)/podman"
    private static let podman =
        "podman --root \(state)/root --runroot \(state)/run --storage-driver vfs"
        + " --runtime runc --cgroup-manager cgroupfs"

    static let prepared = Result {
        try Shell.output(
            """
            mkdir -p \(state)/image/bin && cd \(state)/image && cp "$(command -v busybox)" bin/busybox
            for name in sh wget sleep nc; do ln -sf busybox bin/$name; done
            tar -c . | \(podman) import - culvert-busybox >/dev/null
            """, seconds: 120)
    }

    /// Where workloads are, as podman wants it: from the hierarchy's root.
    private static var parent: String {
        let path = Lab.variable("LAB_CGROUP")
        return "/" + (path.split(separator: "/").last ?? "") + "/a/workloads"
    }

    private static func line(_ options: String, _ command: String) -> String {
        "exec nsenter --net=/run/netns/\(Lab.variable("NETNS_A")) -- \(podman) run \(options) --cgroup-parent \(parent)"
            + " --ulimit nofile=1024:1024 --ulimit nproc=1024:1024 culvert-busybox \(command)"
    }

    static func run(_ options: String, _ command: String, seconds: Int = 60) throws -> CommandResult {
        try Shell.run("\(line("--rm " + options, command)) 2>&1", seconds: seconds)
    }

    static func start(_ name: String, _ options: String, _ command: String) throws {
        try Shell.output(line("-d --name \(name) \(options)", command))
    }

    static func processID(_ name: String) throws -> Int32 {
        let text = try Shell.output("\(podman) inspect \(name) --format '{{.State.Pid}}'")
        return Int32(text.prefix { $0.isNumber }) ?? -1
    }

    static func remove(_ name: String) throws { try Shell.output("\(podman) rm -f -t 0 \(name)") }

    /// podman leaves its directories in hierarchies of version 1, where there are any.
    static func leaveNothing() throws {
        try Shell.output(
            "find /sys/fs/cgroup/*\(parent.split(separator: "/").first.map { "/" + $0 } ?? "/none") -depth -type d"
                + " -not -path '/sys/fs/cgroup/unified/*' -exec rmdir {} + 2>/dev/null || true")
    }
}
