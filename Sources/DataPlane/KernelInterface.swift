package import CLinux
package import CMeshABI
import Glibc

/// The proxy's way to the programs in bpf/: the private socket options of `mesh_abi.h`. Replaceable, so that the proxy
/// can be tested where no program is loaded.
package struct KernelInterface: Sendable {
    /// What the kernel side noted for an accepted socket; nil without a hand-over, and the socket must then go.
    package var accepted: @Sendable (_ descriptor: Int32) -> mesh_socket?
    /// Which client a dial socket presents to the application. 0, or errno: then the stream is refused.
    package var present: @Sendable (_ descriptor: Int32, _ presentation: mesh_present) -> Int32
    /// Whose questions a dial socket for names carries, so that a resolver of the asker's own takes them. 0 or errno: then it
    /// is to the resolver as a stranger's.
    package var asks: @Sendable (_ descriptor: Int32, _ workload: UInt32) -> Int32
    /// How a listener is doing. 0 or errno.
    package var beat: @Sendable (_ descriptor: Int32, _ state: mesh_listener_state) -> Int32
    /// Who sent the datagram that came from `client` to this names listener, and whom it meant; nil for one that no
    /// hook sent there.
    package var question:
        @Sendable (_ descriptor: Int32, _ client: mesh_endpoint, _ listener: mesh_endpoint) -> mesh_question?
    /// What a tunnel's TCP connection has met on its path.
    package var path: @Sendable (_ descriptor: Int32) -> clinux_tcp_statistics

    package init(
        accepted: @escaping @Sendable (Int32) -> mesh_socket?,
        present: @escaping @Sendable (Int32, mesh_present) -> Int32,
        beat: @escaping @Sendable (Int32, mesh_listener_state) -> Int32,
        asks: @escaping @Sendable (Int32, UInt32) -> Int32 = { _, _ in 0 },
        question: @escaping @Sendable (Int32, mesh_endpoint, mesh_endpoint) -> mesh_question? = { _, _, _ in nil },
        path: @escaping @Sendable (Int32) -> clinux_tcp_statistics = { Socket.statistics(of: $0) }
    ) {
        self.path = path
        self.question = question
        self.accepted = accepted
        self.present = present
        self.beat = beat
        self.asks = asks
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
        },
        asks: { descriptor, workload in
            withUnsafeBytes(of: mesh_asker(workload: workload, pad: 0)) {
                clinux_tcp_set_bytes(descriptor, MESH_SOL, MESH_SO_ASKER, $0.baseAddress, $0.count)
            }
        },
        question: { descriptor, client, listener in
            let found = withUnsafeBytes(of: mesh_question_key(client: client, listener: listener, netns: 0)) {
                clinux_tcp_set_bytes(descriptor, MESH_SOL, MESH_SO_QUESTION, $0.baseAddress, $0.count)
            }
            guard found == 0 else { return nil }
            var question = mesh_question()
            let size = MemoryLayout<mesh_question>.size
            let length = withUnsafeMutableBytes(of: &question) {
                clinux_tcp_get_bytes(descriptor, MESH_SOL, MESH_SO_QUESTION, $0.baseAddress, size)
            }
            return length == Int32(size) ? question : nil
        })
}
