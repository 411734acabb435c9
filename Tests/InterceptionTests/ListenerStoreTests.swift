import Glibc
@testable import Interception
import LinuxIO
import MeshModel
import ProxyControl
import Testing

/// The listeners that a proxy gives back to a new meshd, and what a proxy that was taken over may give in their place.
@Suite struct ListenerStoreTests {
    private final class Made {
        let descriptor: FileDescriptor
        init(_ number: Int32) { descriptor = FileDescriptor(owning: number) }
    }

    private func made(_ family: Int32 = AF_INET, _ kind: __socket_type = SOCK_STREAM) throws -> Made {
        let number = socket(family, Int32(kind.rawValue), 0)
        try #require(number >= 0)
        return Made(number)
    }

    private func bound(_ socket: Made) throws -> SocketAddress {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let code = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { raw in
                bind(socket.descriptor.number, raw, size) == 0
                    && getsockname(socket.descriptor.number, raw, &size) == 0
            }
        }
        try #require(code)
        return SocketAddress(IPAddress(ipv4: 0x7f00_0001), UInt16(bigEndian: address.sin_port))
    }

    private func isTrue(_ socket: Made, _ address: SocketAddress, cookie: UInt64? = nil) throws -> Bool {
        let description = ListenerDescription(
            id: 1, kind: .outbound, networkNamespace: .node, address: address, loop: 0)
        return ListenerStore.isTrue(
            socket.descriptor, description, cookie: try cookie ?? NetworkNamespace.cookieOfCallingThread())
    }

    @Test func aListenerIsBelievedWhereTheKernelSaysThatItListens() throws {
        let listener = try made()
        let address = try bound(listener)
        #expect(try !isTrue(listener, address), "it is bound only")
        try #require(listen(listener.descriptor.number, 1) == 0)
        #expect(try isTrue(listener, address))
        #expect(try !isTrue(listener, SocketAddress(address.address, address.port &+ 1)), "another port")
        #expect(try !isTrue(listener, SocketAddress(IPAddress(ipv4: 0x7f4d_0001), address.port)), "another address")
        #expect(
            try !isTrue(listener, address, cookie: NetworkNamespace.cookieOfCallingThread() + 1), "another namespace")
    }

    @Test func nothingElseIsTakenForOne() throws {
        let listener = try made()
        let address = try bound(listener)
        try #require(listen(listener.descriptor.number, 1) == 0)
        let datagrams = try made(AF_INET, SOCK_DGRAM)
        #expect(try !isTrue(datagrams, address), "bound nowhere")
        #expect(try !isTrue(try made(AF_UNIX, SOCK_SEQPACKET), address), "no address at all")
        var ends: [Int32] = [0, 0]
        try #require(pipe(&ends) == 0)
        let (reading, writing) = (Made(ends[0]), Made(ends[1]))
        #expect(try !isTrue(reading, address) && !isTrue(writing, address))
        #expect(try !isTrue(try made(), SocketAddress(IPAddress(ipv4: 0), 0)), "unbound")
    }

    /// It has the listener's own address, and is no listener.
    @Test func anAcceptedConnectionIsNotTakenForItsListener() throws {
        let listener = try made()
        let address = try bound(listener)
        try #require(listen(listener.descriptor.number, 1) == 0)
        let client = try made()
        var target = sockaddr_in()
        target.sin_family = sa_family_t(AF_INET)
        target.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        target.sin_port = address.port.bigEndian
        let code = withUnsafePointer(to: &target) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(client.descriptor.number, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(code == 0)
        let accepted = Made(accept(listener.descriptor.number, nil, nil))
        #expect(try !isTrue(accepted, address))
        #expect(try isTrue(listener, address))
    }
}
