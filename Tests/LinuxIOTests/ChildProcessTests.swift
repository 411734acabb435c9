import Glibc
import LinuxIO
import Testing

@Suite struct ChildProcessTests {
    @Test func theFirstInstructionRunsInTheCgroup() throws {
        let hierarchy = try CgroupHierarchy.locate()
        let cgroup = "/culvert-test-\(getpid())-spawn"
        try hierarchy.create(cgroup)
        defer { try? hierarchy.remove(cgroup) }
        let output = "/tmp/culvert-spawn-\(getpid())"
        defer { unlink(output) }
        var spawn = ProcessSpawn(
            path: "/bin/sh", arguments: ["sh", "-c", "cat /proc/self/cgroup > \(output); id -u >> \(output)"])
        spawn.environment = ["PATH=/usr/bin:/bin"]
        spawn.cgroupProcs = hierarchy.procsFile(cgroup)
        spawn.noNewPrivileges = true
        let child = try spawn.start(passing: DescriptorBatch())
        #expect(finish(child) == .exited(code: 0))
        let text = try TextFile.read(output)
        #expect(text.contains("0::\(cgroup)\n"))
    }

    @Test func anotherUserHasNoPrivileges() throws {
        let output = "/tmp/culvert-user-\(getpid())"
        try TextFile.replace(output, with: [], mode: 0o666)
        chmod(output, 0o666)
        defer { unlink(output) }
        var spawn = ProcessSpawn(
            path: "/bin/sh", arguments: ["sh", "-c", "cat /proc/self/status > \(output)"])
        spawn.environment = ["PATH=/usr/bin:/bin"]
        (spawn.uid, spawn.gid, spawn.noNewPrivileges) = (65_534, 65_534, true)
        let child = try spawn.start(passing: DescriptorBatch())
        _ = finish(child)
        let status = try TextFile.read(output)
        #expect(status.contains("Uid:\t65534\t65534\t65534\t65534"))
        #expect(status.contains("Groups:\t \n"))
        #expect(status.contains("CapEff:\t0000000000000000"))
        #expect(status.contains("NoNewPrivs:\t1"))
    }

    @Test func descriptorsArriveAtThreeAndNothingElse() throws {
        let pair = try SeqpacketSocket.pair()
        let spawn = ProcessSpawn(
            path: "/bin/sh", arguments: ["sh", "-c", "echo hello >&3; test $(ls /proc/self/fd | wc -l) = 5"])
        var withPath = spawn
        withPath.environment = ["PATH=/usr/bin:/bin"]
        let child = try withPath.start(passing: DescriptorBatch(pair.second.descriptor.duplicate()))
        #expect(finish(child) == .exited(code: 0))
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 16, alignment: 8)
        defer { bytes.deallocate() }
        guard case .message(6, _) = try pair.first.receive(into: bytes) else {
            Issue.record("nothing came")
            return
        }
    }

    @Test func failuresAreNamedByTheirStep() throws {
        let missing = ProcessSpawn(path: "/nonexistent", arguments: ["x"])
        #expect(throws: IOError("execve", code: ENOENT, object: "/nonexistent")) {
            _ = try missing.start(passing: DescriptorBatch()).pid
        }
        var elsewhere = ProcessSpawn(path: "/bin/true", arguments: ["true"])
        elsewhere.cgroupProcs = "/nonexistent/cgroup.procs"
        #expect(throws: IOError("cgroup.procs", code: ENOENT, object: "/bin/true")) {
            _ = try elsewhere.start(passing: DescriptorBatch()).pid
        }
    }

    @Test func aDetachedProcessHasASessionOfItsOwn() throws {
        var spawn = ProcessSpawn(path: "/bin/sleep", arguments: ["sleep", "60"])
        spawn.isDetached = true
        let child = try spawn.start(passing: DescriptorBatch())
        // Not that of this process, whose end then does not reach it.
        #expect(getsid(child.pid) != getsid(0))
        let endedBefore = child.hasEnded()
        try child.signal(SIGKILL)
        let ended = child.awaitEnd(milliseconds: 10_000)
        #expect(!endedBefore && ended)
    }

    private func finish(_ child: borrowing ChildProcess) -> ProcessEnd? {
        child.awaitEnd(milliseconds: 10_000) ? child.reap() : nil
    }
}
