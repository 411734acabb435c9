import Glibc

/// A change of node a's configuration for the time of one test.
enum Settings {
    /// Adds an option to the section `proxy` (the last one of the lab's meshd.yaml), starts meshd and its proxy anew, and
    /// undoes both afterwards.
    static func with(_ option: String, _ body: () throws -> Void) throws {
        let file = "\(Lab.state)/a/meshd.yaml"
        try Shell.output("cp \(file) \(file).usual")
        try Shell.output("echo '  \(option)' >>\(file)")
        defer {
            _ = try? Shell.run("mv \(file).usual \(file)")
            try? restart()
        }
        try restart()
        try body()
    }

    private static func restart() throws {
        for pid in try Lab.meshProcesses("a", "proxy") { kill(pid, SIGKILL) }
        try Shell.output("\(Lab.tool) restart a", seconds: 90)
        let works = Shell.waits(20) { (try? Traffic.client("ping-pong 1")) != nil }
        guard works else {
            throw CommandFailure(
                command: "restart a", result: CommandResult(status: 1, output: "no connection after the restart"))
        }
    }
}
