import Synchronization

// More tunnels for a key while lost packets bound what one carries: when they are added, and what becomes of those that can't
// be opened (docs/decisions/0054).

extension UnsafeMutablePointer<LoopState> {
    /// For how long a key's streams are spread after one of its tunnels was last bound.
    private static var lossRemembered: UInt64 { 600_000_000_000 }

    /// Looks at the path of a client tunnel that moved `bytes` since the last sweep.
    func notePath(_ tunnel: TunnelPointer, moved bytes: UInt64) {
        guard pointee.settings.tunnelsUnderLossMax > 1, !tunnel.pointee.flags.contains(.closing) else { return }
        guard bytes > 0 else { return tunnel.pointee.path.pause(pointee.now) }
        let statistics = pointee.shared.kernel.path(tunnel.pointee.descriptor)
        tunnel.pointee.path.add(statistics, moved: bytes, now: pointee.now)
        guard tunnel.pointee.path.isBoundByLoss else { return }
        pointee.boundByLoss[tunnel.pointee.key] = pointee.now + Self.lossRemembered
    }

    func forgetLosses() {
        guard !pointee.boundByLoss.isEmpty else { return }
        pointee.boundByLoss = pointee.boundByLoss.filter { $0.value > pointee.now }
    }

    func isBoundByLoss(_ key: TunnelKey) -> Bool { !pointee.boundByLoss.isEmpty && pointee.boundByLoss[key] != nil }

    /// Another tunnel for a key whose open ones all have streams, if the limits leave room. It must be dialled. Half of
    /// all tunnels are kept for keys that have none.
    func makeAddedTunnel(_ key: TunnelKey) -> TunnelPointer? {
        let shared = pointee.shared
        guard let group = pointee.pool[key], group.tunnels.count < pointee.settings.tunnelsUnderLossMax,
            pointee.now >= group.addsAfter, pointee.nodes[key.node] == nil, pointee.drainDeadline == nil,
            !shared.isOverloaded, shared.tunnelCount.load(ordering: .relaxed) < pointee.settings.tunnelsMax / 2,
            let tunnel = makeTunnel(key)
        else { return nil }
        tunnel.pointee.isAdded = true
        return tunnel
    }

    /// What waits for an added tunnel that could not be opened goes to the others for its key, or to one that is dialled
    /// as ever. `failed` has left the pool.
    func moveToOthers(_ failed: TunnelPointer) {
        pointee.pool[failed.pointee.key]?.addsAfter = pointee.now + NodeTrouble.pauseMax
        moveWaiting(failed)
    }
}

extension UnsafeMutablePointer<Tunnel> {
    /// How long to wait for the next step; of an added tunnel, three seconds for all of them, since what waits for it can
    /// go elsewhere.
    func patience(_ timeout: UInt64) -> UInt64 {
        guard pointee.isAdded else { return timeout }
        let deadline = pointee.openedAt + 3_000_000_000
        return Swift.min(timeout, deadline - Swift.min(deadline, pointee.loop.pointee.now))
    }
}
