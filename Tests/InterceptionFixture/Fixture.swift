import Glibc
import LinuxIO
import ProxyControl

/// Stands in for `meshd proxy`: connects, says hello, counts what it is sent and tells on `report`, comes back when
/// meshd goes, and ends on `drain`. `closeListener` makes it misbehave, by the listener's number.
@main
enum Fixture {
    static func main() throws {
        let arguments = CommandLine.arguments
        guard arguments.count == 4, arguments[1] == "proxy" else { exit(64) }
        var state = State()
        while true {
            if let socket = try? SeqpacketSocket.connect(path: arguments[3]) {
                try? serve(socket, &state)
            }
            usleep(20_000)
        }
    }

    struct State {
        var messages: UInt32 = 0
        var descriptors: UInt32 = 0
        var connects: UInt32 = 0
    }

    static func serve(_ socket: borrowing SeqpacketSocket, _ state: inout State) throws(IOError) {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 200_000, alignment: 8)
        defer { buffer.deallocate() }
        state.connects += 1
        let hello = ProxyHello(
            pid: getpid(), loops: 1, snapshotVersion: 0, listeners: [], principals: [], connections: state.connects - 1)
        _ = try socket.send(ProxyMessage.hello(hello).encode())
        while true {
            var poll = pollfd(fd: socket.descriptor.number, events: Int16(POLLIN), revents: 0)
            _ = Glibc.poll(&poll, 1, -1)
            switch try socket.receive(into: buffer) {
            case .nothing: continue
            case .closed: return
            case .message(let count, let descriptors):
                state.messages += 1
                state.descriptors += UInt32(descriptors.count)
                let bytes = UnsafeRawBufferPointer(rebasing: buffer[..<count])
                guard let message = try? SupervisorMessage(decoding: bytes) else { exit(65) }
                if try !answer(message, on: socket, state) { return }
            }
        }
    }

    /// False to connect anew.
    static func answer(
        _ message: SupervisorMessage, on socket: borrowing SeqpacketSocket, _ state: State
    ) throws(IOError) -> Bool {
        switch message {
        case .report:
            var counters = ProxyCounters()
            counters.connections = state.messages
            counters.descriptors = state.descriptors
            _ = try socket.send(ProxyMessage.counters(counters).encode())
        case .drain: exit(0)
        case .closeListener(1): _ = try socket.send([255, 255, 255])
        case .closeListener(2): return false
        case .closeListener(3): usleep(600_000_000)
        default: break
        }
        return true
    }
}
