import CMeshABI
import MeshModel
import MeshPolicy
import ProxyControl

// A new policy generation reaches what is live: every connection that this node judged is judged again, what is denied
// by now is reset, what is still allowed notices nothing. A connection that another node judges is that node's to end:
// its reset comes through the tunnel.

extension UnsafeMutablePointer<LoopState> {
    func judgeConnectionsAgain(_ snapshot: Snapshot) {
        for (stream, denial) in deniedStreams(snapshot) where !stream.isDead {
            pointee.denyingRule = RuleName(denial.rule, snapshot)
            stream.abort(denial.reason)
        }
        for (end, denial) in deniedRelays(snapshot) where !end.isDead {
            pointee.denyingRule = RuleName(denial.rule, snapshot)
            end.endBoth(denial.reason)
        }
        pointee.denyingRule = .none
    }

    /// The names of a rule, each made once for a snapshot.
    func name(_ rule: DecidingRule, _ snapshot: Snapshot) -> RuleName {
        if let known = pointee.ruleNames[rule] { return known }
        let name = RuleName(rule, snapshot)
        pointee.ruleNames[rule] = name
        return name
    }

    // MARK: private

    private func deniedStreams(_ snapshot: Snapshot) -> [(StreamPointer, Denial)] {
        var denied: [(StreamPointer, Denial)] = []
        var next = pointee.allStreams.first
        while let stream = next {
            next = stream.pointee.listNext
            // The tunnel's client was looked up anew: a meshd that began anew has other numbers.
            if stream.pointee.live.workload != .none, let tunnel = stream.pointee.tunnel {
                stream.pointee.live.principal = tunnel.pointee.key.client
            }
            if let denial = denial(of: stream.pointee.live, snapshot) { denied.append((stream, denial)) }
        }
        return denied
    }

    private func deniedRelays(_ snapshot: Snapshot) -> [(RelayEndPointer, Denial)] {
        var denied: [(RelayEndPointer, Denial)] = []
        var next = pointee.firstRelayEnd
        while let end = next {
            next = end.pointee.listNext
            guard end.pointee.isClient else { continue }
            if !end.pointee.live.isPlaintext, let client = snapshot.workload(end.pointee.workload) {
                end.pointee.live.principal = client.principal
            }
            if let denial = denial(of: end.pointee.live, snapshot) { denied.append((end, denial)) }
        }
        return denied
    }
}

extension OpenRecord {
    /// Notes what allowed the connection.
    mutating func decide(_ permit: Permit, _ snapshot: Snapshot, _ loop: LoopPointer) {
        policyGeneration = permit.policyGeneration
        decidedBy = loop.name(permit.rule, snapshot)
        if let denial = permit.dryRunDenial { dryRunDenial = loop.name(denial, snapshot) }
    }

    /// A policy change ended it before it was open.
    mutating func denied(by rule: RuleName) {
        if !rule.isNone { decidedBy = rule }
    }
}
