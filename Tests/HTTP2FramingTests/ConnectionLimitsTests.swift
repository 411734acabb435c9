import CMeshABI
import HTTP2Framing
import Testing

@Suite struct ConnectionLimitsTests {
    private let second: UInt64 = 1_000_000_000

    private func limits() -> ConnectionLimits { ConnectionLimits(streamsMax: 100, now: 5 * second) }

    /// How many of `event` pass at one moment.
    private func burst(
        _ limits: inout ConnectionLimits, now: UInt64, _ event: (inout ConnectionLimits, UInt64) -> HTTP2Fault?
    ) -> (passed: Int, fault: HTTP2Fault?) {
        for count in 0..<1_000_000 {
            if let fault = event(&limits, now) { return (count, fault) }
        }
        return (1_000_000, nil)
    }

    private typealias Event = @Sendable (inout ConnectionLimits, UInt64) -> HTTP2Fault?

    private static let events: [(name: String, burst: Int, perSecond: Int, reason: mesh_reason, event: Event)] =
        [
            ("rapid reset", 1_000, 100, .MESH_REASON_RESET_FLOOD, { $0.reset(.byPeerBeforeAnswer, now: $1) }),
            ("provoked reset", 200, 20, .MESH_REASON_RESET_FLOOD, { $0.reset(.byUsForFault, now: $1) }),
            ("refused stream", 10_000, 1_000, .MESH_REASON_RESET_FLOOD, { $0.reset(.byUsForLimit, now: $1) }),
            ("late reset", 20_000, 10_000, .MESH_REASON_RESET_FLOOD, { $0.reset(.byPeerAfterAnswer, now: $1) }),
            ("PING", 500, 100, .MESH_REASON_CONTROL_FLOOD, { $0.ping(now: $1) }),
            ("SETTINGS", 50, 5, .MESH_REASON_CONTROL_FLOOD, { $0.settings(now: $1) }),
            ("ignored frame", 1_000, 100, .MESH_REASON_CONTROL_FLOOD, { $0.ignoredFrame(now: $1) }),
            ("empty DATA", 100, 10, .MESH_REASON_EMPTY_DATA_FLOOD, { $0.emptyData(now: $1) }),
            ("WINDOW_UPDATE", 10_000, 1_000, .MESH_REASON_CONTROL_FLOOD, { $0.windowUpdate(now: $1) }),
        ]

    @Test func everyFloodIsStoppedAtItsBurstWithItsReason() {
        for (name, expected, _, reason, event) in Self.events {
            var limits = limits()
            let (passed, fault) = burst(&limits, now: 5 * second, event)
            #expect(passed == expected, "\(name)")
            #expect(fault == HTTP2Fault(.enhanceYourCalm, reason), "\(name)")
        }
    }

    @Test func anOrdinaryRateGoesOnForEver() {
        for (name, _, perSecond, _, event) in Self.events {
            var limits = limits()
            for step in 0..<(perSecond * 100) {
                let now = 5 * second + UInt64(step) * second / UInt64(perSecond)
                let fault = event(&limits, now)
                #expect(fault == nil, "\(name) at \(step)")
                if fault != nil { break }
            }
        }
    }

    @Test func aRateAboveTheLimitEndsInTheLongRun() {
        for (name, allowed, perSecond, _, event) in Self.events {
            var limits = limits()
            var passed = 0
            for step in 0..<(allowed * 20) {
                let now = 5 * second + UInt64(step) * second / UInt64(perSecond * 2)
                if event(&limits, now) != nil { break }
                passed += 1
            }
            #expect(passed < allowed * 5, "\(name)")
        }
    }

    @Test func aClockThatStandsStillOrGoesBackGivesNothing() {
        for (name, expected, _, _, event) in Self.events {
            var limits = limits()
            _ = burst(&limits, now: 5 * second, event)
            #expect(event(&limits, 5 * second) != nil, "\(name)")
            #expect(event(&limits, second) != nil, "\(name)")
            #expect(burst(&limits, now: 10_000 * second, event).passed == expected, "\(name)")
        }
    }

    @Test func limitsOfDifferentKindsDoNotEatEachOther() {
        var limits = limits()
        _ = burst(&limits, now: 5 * second) { $0.ping(now: $1) }
        #expect(limits.settings(now: 5 * second) == nil)
        #expect(limits.reset(.byPeerBeforeAnswer, now: 5 * second) == nil)
    }

    @Test func sendingDataAllowsWindowUpdates() {
        var limits = limits()
        _ = burst(&limits, now: 5 * second) { $0.windowUpdate(now: $1) }
        for _ in 0..<100_000 {
            limits.dataSent()
            for _ in 0..<4 { #expect(limits.windowUpdate(now: 5 * second) == nil) }
        }
    }

    @Test func streamsCountUntilTheirWorkIsUndone() {
        var limits = limits()
        for _ in 0..<100 { #expect(limits.streamOpened() == true) }
        #expect(limits.streamOpened() == false)
        // A reset frees nothing by itself.
        _ = limits.reset(.byPeerBeforeAnswer, now: 5 * second)
        #expect(limits.streamOpened() == false)
        limits.streamEnded()
        #expect(limits.streamOpened() == true)
        limits.setStreamsMax(50)
        limits.streamEnded()
        #expect(limits.streamsOpen == 99 && limits.streamOpened() == false)
        #expect(ConnectionLimits.streamLimit == HTTP2Fault(.refusedStream, .MESH_REASON_STREAM_LIMIT))
    }
}
