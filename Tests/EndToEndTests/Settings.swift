import Glibc

/// A change of node a's configuration for the time of one test.
enum Settings {
    /// Adds the lines to meshd.yaml, starts meshd and its proxy anew, and undoes both afterwards.
    static func with(_ lines: [String], _ body: () throws -> Void) throws {
        let file = "\(Lab.state)/a/meshd.yaml"
        try Shell.output("cp \(file) \(file).usual")
        for line in lines { try Shell.output("printf '%s\\n' \(Shell.quoted(line)) >>\(file)") }
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
