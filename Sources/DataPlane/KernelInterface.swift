import CLinux
package import CMeshABI
import Glibc

/// The proxy's way to the programs in bpf/: the private socket options of `mesh_abi.h`. Replaceable, so that the proxy
/// can be tested where no program is loaded.
package struct KernelInterface: Sendable {
    /// What the kernel side noted for an accepted socket; nil without a hand-over, and the socket must then go.
    package var accepted: @Sendable (_ descriptor: Int32) -> mesh_socket?
    /// Which client a dial socket presents to the application. 0, or errno: then the stream is refused.
    package var present: @Sendable (_ descriptor: Int32, _ presentation: mesh_present) -> Int32
    /// How a listener is doing. 0 or errno.
    package var beat: @Sendable (_ descriptor: Int32, _ state: mesh_listener_state) -> Int32

    package init(
        accepted: @escaping @Sendable (Int32) -> mesh_socket?,
        present: @escaping @Sendable (Int32, mesh_present) -> Int32,
        beat: @escaping @Sendable (Int32, mesh_listener_state) -> Int32
    ) {
        self.accepted = accepted
        self.present = present
        self.beat = beat
    }

    /// The real one.
    package static let socketOptions = KernelInterface(
        accepted: { descriptor in
            var socket = mesh_socket()
            let size = MemoryLayout<mesh_socket>.size
            let length = withUnsafeMutableBytes(of: &socket) {
                clinux_tcp_get_bytes(descriptor, MESH_SOL, MESH_SO_ACCEPTED, $0.baseAddress, size)
            }
            return length == Int32(size) ? socket : nil
        },
        present: { descriptor, presentation in
            withUnsafeBytes(of: presentation) {
                clinux_tcp_set_bytes(descriptor, MESH_SOL, MESH_SO_PRESENT, $0.baseAddress, $0.count)
            }
        },
        beat: { descriptor, state in
            withUnsafeBytes(of: mesh_beat(state: state.rawValue, pad: 0)) {
                clinux_tcp_set_bytes(descriptor, MESH_SOL, MESH_SO_BEAT, $0.baseAddress, $0.count)
            }
        })
}
