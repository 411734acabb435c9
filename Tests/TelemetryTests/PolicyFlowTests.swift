import CMeshABI
import MeshModel
import Testing

@testable import Telemetry

@Suite struct PolicyFlowTests {
    private let rule = RuleName(policy: "shop/no", rule: "rules[0]")

    private func opened(_ id: UInt64, allowed: Bool = true) -> ProxyFlowOpened {
        var opened = ProxyFlowOpened(
            id: id, direction: .inbound, cookie: id, source: SocketAddress(IPAddress(ipv4: 1), 2),
            originalDestination: SocketAddress(IPAddress(ipv4: 3), 4))
        opened.allowed = allowed
        opened.openedNanoseconds = 1_000
        return opened
    }

    private func metrics(_ table: FlowTable) -> String {
        var text = PrometheusText()
        table.policies.write(to: &text)
        return String(decoding: text.bytes, as: UTF8.self)
    }

    @Test func aRefusedFlowHasThePolicyAndRuleThatDecided() throws {
        var table = FlowTable()
        var refused = opened(1, allowed: false)
        refused.reason = .MESH_REASON_POLICY_DENIED
        refused.decidedBy = rule
        table.record(refused)
        let row = try #require(table.page(changedAfter: 0, limit: 9, now: 2_000).flows.first)
        #expect(row.verdict == .denied && row.reason == "policy_denied")
        #expect(row.policy == "shop/no" && row.rule == "rules[0]" && row.dryRunPolicy.isEmpty)
        #expect(row.why == "policy_denied shop/no rules[0]")
        #expect(metrics(table).contains("meshd_policy_denials_total{policy=\"shop/no\",rule=\"rules[0]\"} 1"))
    }

    @Test func aFlowThatAPolicyEndedHasItToo() throws {
        var table = FlowTable()
        var first = opened(1)
        first.decidedBy = RuleName(rule: "no-policy")
        table.record(first)
        let open = try #require(table.page(changedAfter: 0, limit: 9, now: 2_000).flows.first)
        #expect(open.policy.isEmpty && open.rule == "no-policy" && open.why.isEmpty)
        var closed = ProxyFlowClosed(id: 1)
        closed.reason = .MESH_REASON_POLICY_DENIED
        closed.decidedBy = rule
        table.record(closed)
        let row = try #require(table.page(changedAfter: 0, limit: 9, now: 2_000).flows.first)
        #expect(row.state == .closed && row.verdict == .denied && row.policy == "shop/no" && row.rule == "rules[0]")
        #expect(metrics(table).contains("meshd_policy_denials_total{policy=\"shop/no\",rule=\"rules[0]\"} 1"))
    }

    @Test func whatPoliciesOnTrialWouldDenyIsShownAndCountedApart() throws {
        var table = FlowTable()
        var trial = opened(1)
        trial.decidedBy = RuleName(rule: "no-policy")
        trial.dryRunDenial = rule
        table.record(trial)
        let row = try #require(table.page(changedAfter: 0, limit: 9, now: 2_000).flows.first)
        #expect(row.verdict == .allowed && row.dryRunPolicy == "shop/no" && row.dryRunRule == "rules[0]")
        #expect(row.why == "dry-run denies: shop/no rules[0]")
        #expect(metrics(table).contains("meshd_policy_dry_run_denials_total{policy=\"shop/no\",rule=\"rules[0]\"} 1"))
        #expect(!metrics(table).contains("meshd_policy_denials_total{"))
    }

    @Test func rulesBeyondTheBoundAreCountedTogether() {
        var table = FlowTable()
        for number in 0..<UInt64(PolicyCounters.rulesMax + 10) {
            var refused = opened(number + 1, allowed: false)
            refused.reason = .MESH_REASON_POLICY_DENIED
            refused.decidedBy = RuleName(policy: "shop/p\(number)", rule: "rules[0]")
            table.record(refused)
        }
        #expect(metrics(table).contains("meshd_policy_denials_total{policy=\"\",rule=\"other\"} 10"))
    }

    private func datagrams(_ kind: KernelFlowEvent.Kind) -> KernelFlowEvent {
        var event = mesh_event()
        event.kind = UInt8(mesh_event_kind.MESH_EVENT_OPEN.rawValue)
        event.socket.role = UInt8(mesh_socket_role.MESH_ROLE_DATAGRAM.rawValue)
        event.socket.flags = UInt8(MESH_SOCKET_SERVES)
        event.socket.source = SocketAddress(IPAddress(ipv4: 3), 53).meshEndpoint
        event.socket.destination = SocketAddress(IPAddress(ipv4: 1), 2).meshEndpoint
        event.socket.cookie = 5
        (event.bytes_sent, event.bytes_received, event.value, event.socket.peer_cookie) = (600, 8, 2, 1)
        var flow =
            KernelFlowEvent(event, isLive: true)
            ?? KernelFlowEvent(
                kind: kind, role: .captured, source: SocketAddress(.unspecified, 0),
                destination: SocketAddress(.unspecified, 0))
        flow.kind = kind
        flow.decidedBy = RuleName(rule: "no-policy")
        return flow
    }

    @Test func datagramsThatAPeerBeganAreItsFlowAndNamedFromItsSide() throws {
        var table = FlowTable()
        table.record(datagrams(.live), addsUnknown: true)
        let row = try #require(table.page(changedAfter: 0, limit: 9, now: 2_000).flows.first)
        #expect(row.transport == "udp" && row.direction == "inbound" && row.rule == "no-policy")
        #expect("\(row.source)" == "0.0.0.1:2" && row.state == .open && row.path == "plain")
        #expect(row.bytesSent == 8 && row.bytesReceived == 600)
        #expect(row.datagramsSent == 1 && row.datagramsReceived == 2)
    }

    @Test func datagramsThatAreDeniedByNowEndWithTheirRule() throws {
        var table = FlowTable()
        table.record(datagrams(.live), addsUnknown: true)
        table.recordDenial(cookie: 5, reason: .MESH_REASON_POLICY_DENIED, decidedBy: rule)
        table.record(datagrams(.closed))
        let row = try #require(table.page(changedAfter: 0, limit: 9, now: 2_000).flows.first)
        #expect(row.state == .closed && row.verdict == .denied && row.policy == "shop/no" && row.rule == "rules[0]")
    }

    @Test func refusedDatagramIsNoConnectionInItsRow() throws {
        var table = FlowTable()
        var refused = KernelFlowEvent(
            kind: .refused, role: .plain, source: SocketAddress(IPAddress(ipv4: 1), 2),
            destination: SocketAddress(IPAddress(ipv4: 3), 4))
        (refused.isDatagram, refused.reason, refused.decidedBy) = (true, .MESH_REASON_POLICY_DENIED, rule)
        table.record(refused)
        let row = try #require(table.page(changedAfter: 0, limit: 9, now: 2_000).flows.first)
        #expect(row.transport == "udp" && row.verdict == .denied && row.policy == "shop/no")
        #expect(metrics(table).contains("meshd_policy_denials_total{policy=\"shop/no\",rule=\"rules[0]\"} 1"))
    }
}
