package import CMeshABI
import Glibc
package import LinuxIO
package import MeshModel
package import ProxyControl

/// What listeners and dial sockets the proxies should have, and their delivery: made by the socket maker and passed on.
/// Of listeners a duplicate is kept, for the next proxy. Works by difference from what the proxy is known to have, so
/// that an adopted proxy keeps its own.
package final class MeshSockets {
    package struct Ports: Equatable, Sendable {
        package var outbound: UInt16 = 15001
        package var inbound: UInt16 = 15006
        package var tunnel: UInt16 = MeshPort.tunnel
        /// The first of `MESH_RESOLVERS_MAX`; 0: DNS is left alone.
        package var names: UInt16 = MeshPort.dns
        /// What meshd itself serves in the node's own network namespace: metrics and readiness.
        package var ownServices: [UInt16] = []

        package init() {}

        /// Those of the mesh in a network namespace, to be kept from autobind.
        package func reserved(in id: NetworkNamespaceID) -> [UInt16] {
            let own = id == .node ? ownServices : []
            return Set(MeshPort.fixed + MeshPort.names + [outbound, tunnel] + own).sorted()
        }
    }

    /// IP versions in use somewhere.
    package struct Families: OptionSet, Sendable {
        package let rawValue: UInt8
        package init(rawValue: UInt8) { self.rawValue = rawValue }
        package static let ipv4 = Families(rawValue: 1)
        package static let ipv6 = Families(rawValue: 2)
        package static let both: Families = [.ipv4, .ipv6]
    }

    /// What there should be.
    package struct Wanted: Equatable, Sendable {
        /// Namespaces with workloads, and the families of the addresses that are dialled there.
        package var namespaces: [NetworkNamespaceID: Families] = [:]
        /// Those of them in which a workload takes plain text.
        package var plaintext: Set<NetworkNamespaceID> = []
        /// This node's own, where tunnels arrive.
        package var tunnelAddresses: Set<IPAddress> = []
        /// Of the peer nodes' tunnel addresses.
        package var tunnelFamilies: Families = []

        package init() {}
    }

    /// Capture listeners: several for IPv4, as one would cap a namespace at one ephemeral port range.
    static let captureAddresses4 = (1...4).map { IPAddress(ipv4: 0x7f4d_0000 | UInt32($0)) }
    static let captureAddress6 = IPAddress(high: 0, low: 1)
    /// First filling of a pool: the node's own, and those of other namespaces; never more than `poolShare` of what the
    /// proxy may hold, so that waiting sockets alone don't overload it. Later the proxy asks for what it needs.
    static let nodePoolSockets: UInt32 = 64
    static let smallPoolSockets: UInt32 = 4
    static let poolShare: UInt32 = 32
    /// What the proxy may have asked for at once of one pool, whatever it says.
    static let outstandingMax: UInt32 = 512

    private let maker: SocketMaker
    private let namespaces: NamespaceTable
    private let reactor: Reactor
    private let ports: Ports
    private let descriptorsMax: UInt32
    private let setInbound: (mesh_inbound_key, borrowing FileDescriptor) throws(IOError) -> Void
    private let orphanMilliseconds: UInt64

    /// The one that serves.
    private var process: ProxyProcess?
    private var channel: ProxyChannel? { process?.channel }
    private var loops: UInt16 = 1
    /// What the proxy that serves has, by their numbers there.
    private var listeners: [ListenerKey: UInt32] = [:]
    private var store = ListenerStore()
    private var nextListener: UInt32 = 1
    private var supplies: [Int32: DialSupply] = [:]
    /// What the proxy that serves next has already.
    private var passed: Set<ListenerKey> = []
    private var closing: Reactor.TimerID?
    private var retry: Reactor.TimerID?
    private var prepared: Set<NetworkNamespaceID> = []
    /// Namespaces without IPv6 loopback.
    private var withoutIPv6: Set<NetworkNamespaceID> = []
    /// What could not be made, and why: gone when it could.
    private var failures: [Subject: IOError] = [:]
    package var problems: [String] { failures.map { "\($0): \($1)" } }
    private var wanted = Wanted()

    /// `descriptorsMax`: what the proxy may hold at most. `orphanMilliseconds`: how long listeners that no proxy serves
    /// are kept for the next one. `setInbound` tells the kernel side which listener takes plain text in a namespace.
    package init(
        maker: SocketMaker, namespaces: NamespaceTable, reactor: Reactor, ports: Ports, descriptorsMax: UInt32,
        orphanMilliseconds: UInt64 = 5_000,
        setInbound: @escaping (mesh_inbound_key, borrowing FileDescriptor) throws(IOError) -> Void
    ) {
        self.setInbound = setInbound
        self.descriptorsMax = descriptorsMax
        self.orphanMilliseconds = orphanMilliseconds
        self.maker = maker
        self.namespaces = namespaces
        self.reactor = reactor
        self.ports = ports
    }

    package var listenerCount: Int { listeners.count }

    /// Whether the proxy has a listener at just this place.
    func listens(_ id: NetworkNamespaceID, _ address: SocketAddress) -> Bool {
        listeners.keys.contains { $0.networkNamespace == id && $0.address == address }
    }

    /// A proxy is there that serves. `existing`: the listeners that it has from before; it is asked for duplicates. A
    /// fresh one gets those that are kept.
    package func attach(_ process: ProxyProcess, loops: UInt16, existing: [ListenerDescription]) {
        self.process = process
        self.loops = max(loops, 1)
        cancelClosing()
        listeners = [:]
        for listener in existing {
            listeners[ListenerKey(listener)] = listener.id
            nextListener = max(nextListener, listener.id &+ 1)
        }
        // An adopted proxy has its pools and asks when they run low.
        supplies[process.pid] = DialSupply(process, filled: existing.isEmpty ? [] : wantedPools())
        if existing.isEmpty { listeners = pass(store.keys, to: process) } else { process.send(.giveListeners) }
        reconcile()
    }

    /// Another proxy is there, which is to serve next: it gets every listener that is kept, and dial sockets.
    package func prepare(_ next: ProxyProcess) {
        supplies[next.pid] = DialSupply(next)
        passed = Set(pass(store.keys, to: next).keys)
        fillPools()
    }

    /// A proxy is there that drains: it only dials.
    package func attachDraining(_ process: ProxyProcess) {
        supplies[process.pid] = DialSupply(process, filled: wantedPools())
    }

    /// The next one serves now. Whether it has every listener that the former one has.
    package func promote(_ next: ProxyProcess, loops: UInt16) -> Bool {
        let former = Set(listeners.keys)
        process = next
        self.loops = max(loops, 1)
        cancelClosing()
        listeners = pass(store.keys.subtracting(passed), to: next)
        for key in passed { listeners[key] = store.number(of: key) }
        passed = []
        reconcile()
        return former.allSatisfy { store.has($0) }
    }

    /// The proxy that serves gave one of its listeners.
    package func take(_ description: ListenerDescription, _ descriptor: consuming FileDescriptor) {
        let key = ListenerKey(description)
        guard listeners[key] == description.id, let cookie = namespaces.cookie(of: key.networkNamespace),
            ListenerStore.isTrue(descriptor, description, cookie: cookie)
        else { return }
        store.keep(key, number: description.id, descriptor)
    }

    /// The process is gone, and everything that it alone had.
    package func detach(_ ended: ProxyProcess) {
        supplies[ended.pid] = nil
        guard ended === process else { return }
        process = nil
        listeners = [:]
        guard !store.isEmpty, closing == nil else { return }
        // A connection that waits in them is better refused than held for ever.
        closing = reactor.schedule(afterMilliseconds: orphanMilliseconds) { [weak self] in
            self?.closing = nil
            self?.store.drop { _ in true }
        }
    }

    private func cancelClosing() {
        if let closing { reactor.cancel(closing) }
        closing = nil
    }

    /// The numbers of what was passed.
    private func pass(_ keys: Set<ListenerKey>, to process: ProxyProcess) -> [ListenerKey: UInt32] {
        var passed: [ListenerKey: UInt32] = [:]
        for key in keys {
            guard let copy = store.copy(key), let id = store.number(of: key) else { continue }
            if process.send(.listener(key.description(id: id)), DescriptorBatch(copy)) { passed[key] = id }
        }
        return passed
    }

    package func update(_ wanted: Wanted) {
        self.wanted = wanted
        reconcile()
    }

    /// Tries again what could not be made, as a port may be free by now.
    package func retryFailed() {
        if !failures.isEmpty { reconcile() }
    }

    /// A proxy asks for dial sockets.
    package func need(_ pool: DialPool, count: UInt32, by process: ProxyProcess) {
        guard isKnown(pool) else {
            if !namespaces.ids.contains(pool.networkNamespace) {
                process.send(.networkNamespaceGone(pool.networkNamespace))
            }
            return
        }
        supplies[process.pid]?.need(pool, count: count, max: Self.outstandingMax)
        fillPools()
    }

    /// The namespace is dead: the proxies are to close everything in it.
    package func namespaceGone(_ id: NetworkNamespaceID) {
        wanted.namespaces[id] = nil
        prepared.remove(id)
        withoutIPv6.remove(id)
        failures = failures.filter { $0.key.networkNamespace != id }
        listeners = listeners.filter { $0.key.networkNamespace != id }
        store.drop { $0.networkNamespace == id }
        for supply in supplies.values {
            supply.forget(id)
            supply.process.send(.networkNamespaceGone(id))
        }
    }

    /// Where the connect hook may redirect to. Before the first proxy is here, as if all were made: the pinned maps of
    /// an earlier meshd say so, its proxy listens, and the hook looks at the socket anyway.
    package func captureAddresses(_ id: NetworkNamespaceID) -> [SocketAddress] {
        guard wanted.namespaces[id] != nil else { return [] }
        return captureTargets(id)
    }

    // MARK: listeners

    private func captureTargets(_ id: NetworkNamespaceID) -> [SocketAddress] {
        let all = Self.captureAddresses4 + (withoutIPv6.contains(id) ? [] : [Self.captureAddress6])
        return all.map { SocketAddress($0, ports.outbound) }
    }

    /// One for each resolver that a socket may be asking: addresses, and for IPv6, which has one on loopback, ports.
    private func namesTargets(_ id: NetworkNamespaceID) -> [SocketAddress] {
        guard ports.names != 0 else { return [] }
        let ports6 = withoutIPv6.contains(id) ? [] : (0..<UInt16(MESH_RESOLVERS_MAX)).map { ports.names + $0 }
        return Self.captureAddresses4.map { SocketAddress($0, ports.names) }
            + ports6.map { SocketAddress(Self.captureAddress6, $0) }
    }

    /// Only to be there: the kernel side hands over what was meant for other addresses and ports.
    private func plaintextTargets(_ id: NetworkNamespaceID) -> [SocketAddress] {
        let addresses = Self.captureAddresses4.prefix(1) + (withoutIPv6.contains(id) ? [] : [Self.captureAddress6])
        return addresses.map { SocketAddress($0, ports.inbound) }
    }

    private func reconcile() {
        guard let channel, channel.isOpen else { return }
        var keys: Set<ListenerKey> = []
        for id in wanted.namespaces.keys.sorted(by: { $0.rawValue < $1.rawValue }) {
            prepare(id)
            for target in captureTargets(id) { makeListeners(.outbound, id, target, &keys) }
            for target in namesTargets(id) { makeListeners(.names, id, target, &keys) }
            guard wanted.plaintext.contains(id) else { continue }
            for target in plaintextTargets(id) { makeListeners(.inbound, id, target, &keys) }
        }
        for address in wanted.tunnelAddresses.sorted() {
            prepare(.node)
            makeListeners(.tunnel, .node, SocketAddress(address, ports.tunnel), &keys)
        }
        // More than there are loops now is no fault: closing one resets what waits in it.
        let places = Set(keys.map(\.place))
        for (key, id) in listeners where !places.contains(key.place) {
            for supply in supplies.values { supply.process.send(.closeListener(id: id)) }
            listeners[key] = nil
        }
        store.drop { !places.contains($0.place) }
        fillPools()
    }

    private func prepare(_ id: NetworkNamespaceID) {
        guard !prepared.contains(id) else { return }
        let subject = Subject.preparing(id)
        do throws(IOError) {
            let cookie = try maker.prepare(namespaces.open(id), reservedPorts: ports.reserved(in: id))
            if cookie == namespaces.cookie(of: id) { prepared.insert(id) }
            failures[subject] = nil
        } catch {
            failures[subject] = error
        }
    }

    private func makeListeners(
        _ kind: ListenerDescription.Kind, _ id: NetworkNamespaceID, _ address: SocketAddress,
        _ keys: inout Set<ListenerKey>
    ) {
        var missing: [ListenerKey] = []
        for loop in 0..<loops {
            let key = ListenerKey(kind: kind, networkNamespace: id, address: address, loop: loop)
            keys.insert(key)
            if listeners[key] == nil { missing.append(key) }
        }
        if missing.isEmpty { return }
        let subject = Subject.listening(id, address)
        do throws(IOError) {
            let namespace = try namespaces.open(id)
            let made = try maker.listeners(
                on: address, isDatagram: kind == .names, in: namespace, id: id, count: UInt16(missing.count))
            guard made.cookie == namespaces.cookie(of: id) else { return }
            failures[subject] = nil
            try deliver(made, missing)
        } catch {
            if !address.address.isIPv4, kind != .tunnel,
                error.code == EADDRNOTAVAIL || error.code == EAFNOSUPPORT
            {
                withoutIPv6.insert(id)
            } else {
                failures[subject] = error
            }
        }
    }

    private func deliver(_ made: consuming SocketMaker.Made, _ keys: [ListenerKey]) throws(IOError) {
        let cookie = made.cookie
        var sockets = made.takeSockets()
        for key in keys {
            guard let socket = sockets.takeFirst() else { return }
            if key.kind == .inbound {
                // One of the loops' is enough: the kernel spreads what is handed to a group of listeners.
                let family = UInt32(key.address.address.isIPv4 ? AF_INET : AF_INET6)
                try setInbound(mesh_inbound_key(netns_cookie: cookie, family: family, pad: 0), socket)
            }
            let listener = key.description(id: nextListener)
            nextListener &+= 1
            if let copy = try? socket.duplicate() { store.keep(key, number: listener.id, copy) }
            guard channel?.send(.listener(listener), DescriptorBatch(socket)) == true else { return }
            listeners[key] = listener.id
        }
    }

    // MARK: dial sockets

    private func wantedPools() -> Set<DialPool> {
        var pools: Set<DialPool> = []
        func add(_ purpose: DialPool.Purpose, _ id: NetworkNamespaceID, _ families: Families) {
            for (family, isIPv6) in [(Families.ipv4, false), (.ipv6, true)] where families.contains(family) {
                pools.insert(DialPool(purpose: purpose, networkNamespace: id, isIPv6: isIPv6))
            }
        }
        for (id, families) in wanted.namespaces {
            add(.application, id, families)
            if ports.names != 0 { add(.namesDatagram, id, .ipv4) }
        }
        add(.tunnel, .node, wanted.tunnelFamilies)
        return pools
    }

    /// What the proxy may ask for: sockets for names also of kinds that are rare, so that none wait in advance.
    private func isKnown(_ pool: DialPool) -> Bool {
        switch pool.purpose {
        case .application, .tunnel: wantedPools().contains(pool)
        case .namesDatagram, .namesStream: ports.names != 0 && wanted.namespaces[pool.networkNamespace] != nil
        }
    }

    private func fillPools() {
        for supply in supplies.values { fill(supply) }
    }

    private func fill(_ supply: DialSupply) {
        guard let channel = supply.process.channel, channel.isOpen else { return }
        if supply.process.role != .draining {
            for pool in wantedPools() {
                let isBusy = pool.networkNamespace == .node && pool.purpose != .namesDatagram
                let usual = isBusy ? Self.nodePoolSockets : Self.smallPoolSockets
                supply.fillFirst(pool, count: min(usual, max(Self.smallPoolSockets, descriptorsMax / Self.poolShare)))
            }
        }
        for (pool, count) in supply.outstanding.sorted(by: { $0.value < $1.value }) {
            // A busy channel is asked again later: sockets in its queue would serve nobody.
            if channel.isBusy { return retryLater() }
            let batch = min(count, UInt32(SocketRequest.socketsMax))
            guard deliver(pool, UInt16(batch), to: channel) else { continue }
            supply.delivered(pool, batch)
            if count > batch { retryLater() }
        }
    }

    /// False when it is worth another try.
    private func deliver(_ pool: DialPool, _ count: UInt16, to channel: ProxyChannel) -> Bool {
        let subject = Subject.dialling(pool.networkNamespace)
        do throws(IOError) {
            let namespace = try namespaces.open(pool.networkNamespace)
            var made = try maker.dialSockets(pool, count: count, in: namespace)
            guard made.cookie == namespaces.cookie(of: pool.networkNamespace) else { return true }
            failures[subject] = nil
            channel.send(.dialSockets(pool: pool), made.sockets.takeFirst(Int(count)))
            return true
        } catch {
            failures[subject] = error
            // Without IPv6 in the kernel no try helps.
            if error.code == EAFNOSUPPORT { return true }
            retryLater(milliseconds: 200)
            return false
        }
    }

    private func retryLater(milliseconds: UInt64 = 50) {
        guard retry == nil else { return }
        retry = reactor.schedule(afterMilliseconds: milliseconds) { [weak self] in
            self?.retry = nil
            self?.fillPools()
        }
    }

    /// What a failure is about.
    private enum Subject: Hashable, CustomStringConvertible {
        case preparing(NetworkNamespaceID)
        case listening(NetworkNamespaceID, SocketAddress)
        case dialling(NetworkNamespaceID)

        var networkNamespace: NetworkNamespaceID {
            switch self {
            case .preparing(let id), .listening(let id, _), .dialling(let id): id
            }
        }

        var description: String {
            switch self {
            case .preparing(let id): "network namespace \(id.rawValue)"
            case .listening(let id, let address): "network namespace \(id.rawValue), \(address)"
            case .dialling(let id): "dial sockets of network namespace \(id.rawValue)"
            }
        }
    }
}
