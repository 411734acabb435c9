import Glibc
import Interception
import LinuxIO

@main
enum Meshd {
    static func main() {
        switch CommandLine.arguments.dropFirst().first {
        case SocketMakerProcess.verb: exit(socketMaker())
        default: break
        }
    }

    /// Only meshd starts it, with the control socket as descriptor 3.
    private static func socketMaker() -> Int32 {
        do {
            let control = FileDescriptor(owning: SocketMakerProcess.controlDescriptor)
            try SocketMakerProcess.run(
                control: control, marksPurpose: !CommandLine.arguments.contains("--without-kernel-programs"))
            return 0
        } catch {
            let line = Array("socket maker: \(error)\n".utf8)
            _ = write(STDERR_FILENO, line, line.count)
            return 1
        }
    }
}
