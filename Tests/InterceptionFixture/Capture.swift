import CLinux
import CMeshABI
import Glibc
import LinuxIO

/// What a proxy does with the kernel side: beats on its listeners, and reads where an accepted connection was going.
enum Capture {
    /// Does nothing where the programs are not loaded.
    static func beat(_ state: Fixture.State) {
        var beat = mesh_beat(state: mesh_listener_state.MESH_LISTENER_SERVING.rawValue, pad: 0)
        for held in state.held where held.isListener {
            let size = MemoryLayout<mesh_beat>.size
            _ = clinux_set_option(held.descriptor.number, MESH_SOL, MESH_SO_BEAT, &beat, size)
        }
    }

    /// Accepts and closes all that waits: how many, and the last four bytes of the last original destination.
    static func accept(_ state: Fixture.State) -> (count: UInt64, destination: UInt64) {
        var count: UInt64 = 0
        var destination: UInt64 = 0
        for held in state.held where held.isListener {
            while case let number = clinux_accept(held.descriptor.number), number >= 0 {
                var socket = mesh_socket()
                var length = socklen_t(MemoryLayout<mesh_socket>.size)
                if getsockopt(number, MESH_SOL, MESH_SO_ACCEPTED, &socket, &length) == 0 {
                    count += 1
                    destination = UInt64(UInt32(bigEndian: socket.destination.address.word.3))
                }
                close(number)
            }
        }
        return (count, destination)
    }
}
