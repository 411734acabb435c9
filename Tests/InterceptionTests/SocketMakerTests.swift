import CLinux
import Glibc
@testable import Interception
import LinuxIO
import MeshModel
import ProxyControl
import Testing

@Suite struct SocketMakerTests {
    private func maker(_ cgroup: TestCgroup) throws -> SocketMaker {
        var configuration = SocketMaker.Configuration(
            executable: try meshdPath(), cgroup: cgroup.path + "/culvert/sockets", hierarchy: cgroup.hierarchy)
        configuration.arguments += ["--without-kernel-programs"]
        return SocketMaker(configuration)
    }

    @Test func listenersAreInTheNamespaceAndShareTheirAddress() throws {
        let cgroup = try TestCgroup("listen")
        let named = try TestNamespace("listen")
        let maker = try maker(cgroup)
        let namespace = try NetworkNamespace(name: named.name)
        let cookie = try maker.prepare(namespace, reservedPorts: [15001])
        #expect(try cookie == namespace.cookie())
        let address = SocketAddress(IPAddress(ipv4: 0x7f4d_0001), 15001)
        let made = try maker.listeners(on: address, in: namespace, id: NetworkNamespaceID(rawValue: 1), count: 2)
        let count = made.sockets.count
        #expect(count == 2 && made.cookie == cookie)
        // Reachable inside, and only there.
        let inside = try namespace.inside { () throws(IOError) in connects(to: address) }
        let other = try TestNamespace("listen2")
        let outside = try NetworkNamespace(name: other.name).inside { () throws(IOError) in connects(to: address) }
        #expect(inside && !outside)
    }

    @Test func bothFamiliesListenAndDial() throws {
        let cgroup = try TestCgroup("dial")
        let named = try TestNamespace("dial")
        let maker = try maker(cgroup)
        let namespace = try NetworkNamespace(name: named.name)
        _ = try maker.prepare(namespace, reservedPorts: [])
        let id = NetworkNamespaceID(rawValue: 1)
        let listeners = try maker.listeners(
            on: SocketAddress(IPAddress(high: 0, low: 1), 15001), in: namespace, id: id, count: 1)
        let listening = listeners.sockets.count
        #expect(listening == 1)
        for isIPv6 in [false, true] {
            let pool = DialPool(purpose: .application, networkNamespace: id, isIPv6: isIPv6)
            var made = try maker.dialSockets(pool, count: 64, in: namespace)
            let count = made.sockets.count
            #expect(count == 64)
            guard let socket = made.sockets.takeFirst() else { return }
            var cookie: UInt64 = 0
            #expect(clinux_network_namespace_cookie(socket.number, &cookie) == 0)
            #expect(cookie == made.cookie)
        }
    }

    @Test func reservedPortsAreMergedWithThoseOfTheAdministrator() throws {
        let cgroup = try TestCgroup("ports")
        let named = try TestNamespace("ports")
        let maker = try maker(cgroup)
        let namespace = try NetworkNamespace(name: named.name)
        let path = "/proc/sys/net/ipv4/ip_local_reserved_ports"
        try namespace.inside { () throws(IOError) in try TextFile.write("8080,9000-9010", to: path) }
        _ = try maker.prepare(namespace, reservedPorts: [15001, 15008, 9005])
        let text = try namespace.inside { () throws(IOError) in try TextFile.read(path) }
        #expect(text == "8080,9000-9010,15001,15008\n")
        let other = try TestNamespace("ports2")
        let untouched = try NetworkNamespace(name: other.name).inside { () throws(IOError) in
            try TextFile.read(path)
        }
        #expect(untouched == "\n")
    }

    @Test func theMakerLivesInItsCgroupAndEndsWithItsOwner() throws {
        let cgroup = try TestCgroup("life")
        let named = try TestNamespace("life")
        let namespace = try NetworkNamespace(name: named.name)
        var maker: SocketMaker? = try maker(cgroup)
        _ = try maker?.prepare(namespace, reservedPorts: [])
        let pid = try #require(maker?.pid)
        #expect(try CgroupHierarchy.path(ofProcess: pid) == cgroup.path + "/culvert/sockets")
        maker = nil
        #expect(try !cgroup.hierarchy.isPopulated(cgroup.path))
    }

    @Test func aDeadMakerIsReplaced() throws {
        let cgroup = try TestCgroup("dead")
        let named = try TestNamespace("dead")
        let namespace = try NetworkNamespace(name: named.name)
        let maker = try maker(cgroup)
        _ = try maker.prepare(namespace, reservedPorts: [])
        let first = try #require(maker.pid)
        kill(first, SIGKILL)
        usleep(100_000)
        _ = try maker.prepare(namespace, reservedPorts: [])
        #expect(maker.pid != first)
    }

    @Test func aPortThatIsTakenIsNamed() throws {
        let cgroup = try TestCgroup("taken")
        let named = try TestNamespace("taken")
        let namespace = try NetworkNamespace(name: named.name)
        let maker = try maker(cgroup)
        _ = try maker.prepare(namespace, reservedPorts: [])
        let address = SocketAddress(IPAddress(ipv4: 0x7f4d_0001), 15001)
        let home = try NetworkNamespace.current()
        try namespace.enter()
        let foreign = try PlainListener(address)
        try home.enter()
        do {
            let made = try maker.listeners(on: address, in: namespace, id: NetworkNamespaceID(rawValue: 1), count: 1)
            let count = made.sockets.count
            Issue.record("\(count) listeners on a port that is taken")
        } catch {
            #expect(error.code == EADDRINUSE && error.call == "bind")
            #expect(error.object == "listener on 127.77.0.1:15001")
        }
        withExtendedLifetime(foreign) {}
    }

    @Test func nothingPinsANamespaceThatItsSocketsLeft() throws {
        let cgroup = try TestCgroup("pin")
        let named = try TestNamespace("pin")
        let maker = try maker(cgroup)
        _ = try maker.prepare(NetworkNamespace(name: named.name), reservedPorts: [])
        _ = try maker.dialSockets(
            DialPool(purpose: .application, networkNamespace: NetworkNamespaceID(rawValue: 1), isIPv6: false),
            count: 8, in: NetworkNamespace(name: named.name))
        let pid = try #require(maker.pid)
        // Its own control socket and the standard three: no socket and no namespace is kept.
        for _ in 0..<100 where try TextFile.list("/proc/\(pid)/fd").count != 4 { usleep(10_000) }
        #expect(try TextFile.list("/proc/\(pid)/fd").count == 4)
    }

    @Test func reservedPortTextIsParsedAndMerged() {
        #expect(PortRanges(parsing: "\n").adding([15001])?.description == "15001")
        #expect(PortRanges(parsing: "1-3,15001").adding([2, 15001]) == nil)
        #expect(PortRanges(parsing: "20000,1-3").adding([5, 5])?.description == "1-3,5,20000")
    }

    private func connects(to address: SocketAddress) -> Bool {
        let number = socket(AF_INET, 1, 0)
        guard number >= 0 else { return false }
        defer { close(number) }
        return withTarget(address) { connect(number, $0, $1) == 0 }
    }
}
