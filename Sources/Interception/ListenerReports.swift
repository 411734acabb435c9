import CMeshABI
import Glibc
import LinuxIO
import MeshModel

// What the kernel side says of workloads that begin to listen: see bpf/include/own_listeners.h.
extension Interceptor {
    /// A workload listens where it should not. One on a port of the mesh loses its socket: connections that are the
    /// mesh's could come to it.
    func noteListening(_ event: mesh_event) {
        guard let reason = Reason(number: event.reason), reason != .MESH_REASON_NONE else { return }
        let workload = WorkloadID(rawValue: event.socket.workload)
        let address = SocketAddress(event.socket.destination)
        let place = ListenerConflicts.Place(namespaceCookie: event.socket.netns_cookie, address: address)
        let name = instances.instance(workload)?.resource.description ?? "#\(workload.rawValue)"
        let text: String
        switch reason {
        case .MESH_REASON_PORT_CONFLICT:
            text =
                "workload \(name) listens on \(address) as another workload does already: "
                + "what comes to that port is the other's (\(reason.name))"
        case .MESH_REASON_MESH_PORT_RESERVED:
            text =
                "workload \(name) listened on \(address), a port of the mesh: "
                + "its socket was \(endListener(place) ? "closed" : "NOT closed") (\(reason.name))"
        default: text = "workload \(name) listens on \(address), which could not be noted (\(reason.name))"
        }
        conflicts.note(text, at: place, of: workload, now: BootClock.nanoseconds())
        reportProblems()
    }

    /// Every 5 s: conflicts that were not seen again are looked for.
    func lookForConflictsAgain() {
        for cookie in conflicts.expire(now: BootClock.nanoseconds()) {
            guard let id = namespaces.id(ofCookie: cookie) else { continue }
            noteListeners(in: id)
        }
        reportProblems()
    }

    // MARK: private

    private func endListener(_ place: ListenerConflicts.Place) -> Bool {
        guard let id = namespaces.id(ofCookie: place.namespaceCookie) else { return false }
        // "Any" is one to the kernel side, whichever family the socket has.
        let anyIPv4 = IPAddress(ipv4: 0)
        let addresses =
            place.address.address.isUnspecified ? [anyIPv4, .unspecified] : [place.address.address]
        var isEnded = false
        for address in addresses where !sockets.listens(id, SocketAddress(address, place.address.port)) {
            attempt { () throws(IOError) in
                let ended = try namespaces.open(id).inside { () throws(IOError) in
                    try ConnectionEnd.destroy(
                        local: SocketAddress(address, place.address.port),
                        remote: SocketAddress(address.isIPv4 ? anyIPv4 : .unspecified, 0), cookie: .max)
                }
                isEnded = isEnded || ended
            }
        }
        // What could not be made beside it can be now.
        if isEnded { sockets.retryFailed() }
        return isEnded
    }
}
