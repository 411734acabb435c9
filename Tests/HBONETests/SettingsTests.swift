import HBONE
import HTTP2Framing
import Testing

extension PeerSettings {
    mutating func apply(entries: [Setting]) throws(HTTP2Fault) -> Change {
        let bytes = entries.flatMap { entry in
            [UInt8(entry.identifier.rawValue >> 8), UInt8(entry.identifier.rawValue & 255)]
                + [24, 16, 8, 0].map { UInt8(entry.value >> $0 & 255) }
        }
        var settings = self
        let result = bytes.withUnsafeBytes { bytes in
            Result { () throws(HTTP2Fault) in try settings.apply(SettingsList(payload: bytes)) }
        }
        self = settings
        return try result.get()
    }
}

@Suite struct SettingsTests {
    @Test func defaultsAreThoseOfTheRFC() {
        let settings = PeerSettings()
        #expect(settings.initialWindowSize == 65_535 && settings.maxFrameSize == 16_384)
        #expect(settings.headerTableSize == 4_096 && settings.maxConcurrentStreams == .max)
        #expect(settings.earlyDataBytes == 0 && settings.kind == .other)
    }

    @Test func ourOwnKindIsKnownByWhatItSends() throws {
        for settings in [TunnelSettings.client, TunnelSettings.server(.other), TunnelSettings.server(.culvert)] {
            var peer = PeerSettings()
            let change = try peer.apply(entries: settings)
            #expect(peer.kind == .culvert && peer.earlyDataBytes == 65_536)
            #expect(peer.initialWindowSize == 65_536 && change.windowDelta == 1)
            #expect(peer.maxHeaderListSize == 16_384)
        }
    }

    @Test func serversLetOurOwnKindHaveMoreStreams() throws {
        var peer = PeerSettings()
        _ = try peer.apply(entries: TunnelSettings.server(.other))
        #expect(peer.maxConcurrentStreams == 1_000)
        _ = try peer.apply(entries: TunnelSettings.raisedStreams)
        #expect(peer.maxConcurrentStreams == 10_000 && peer.kind == .culvert)
    }

    @Test func onlyAClientSaysThatItTakesNoPush() {
        #expect(TunnelSettings.client.contains(Setting(.enablePush, 0)))
        #expect(!TunnelSettings.server(.other).contains { $0.identifier == .enablePush })
    }

    @Test func theLastOfTwoEntriesCounts() throws {
        var peer = PeerSettings()
        let change = try peer.apply(entries: [
            Setting(.initialWindowSize, 10), Setting(.initialWindowSize, 100_000), Setting(.headerTableSize, 0),
        ])
        #expect(peer.initialWindowSize == 100_000 && change.windowDelta == 34_465 && change.headerTableSize == 0)
    }

    @Test func unknownEntriesAreIgnored() throws {
        var peer = PeerSettings()
        let change = try peer.apply(entries: [Setting(SettingIdentifier(rawValue: 0xabcd), .max)])
        #expect(peer == PeerSettings() && change == PeerSettings.Change())
    }

    @Test func earlyDataIsNeverMoreThan64KiB() throws {
        var peer = PeerSettings()
        _ = try peer.apply(entries: [Setting(TunnelSettings.earlyData, .max)])
        #expect(peer.earlyDataBytes == 65_536)
        _ = try peer.apply(entries: [Setting(TunnelSettings.earlyData, 5)])
        #expect(peer.earlyDataBytes == 5)
    }

    @Test(arguments: [
        (Setting(.enablePush, 2), HTTP2Fault.protocolError), (Setting(.initialWindowSize, 0x8000_0000), .flowControl),
        (Setting(.maxFrameSize, 16_383), .protocolError), (Setting(.maxFrameSize, 0x100_0000), .protocolError),
    ])
    func refuses(_ setting: Setting, _ fault: HTTP2Fault) {
        var peer = PeerSettings()
        #expect(throws: fault) { try peer.apply(entries: [setting]) }
    }
}
