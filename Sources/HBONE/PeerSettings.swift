package import HTTP2Framing

/// What the peer has announced, with the protocol's defaults until it has (RFC 9113 section 6.5.2).
package struct PeerSettings: Equatable, Sendable {
    /// What one SETTINGS frame changed for what exists already.
    package struct Change: Equatable, Sendable {
        /// To be added to the send window of every stream, half-open ones included (section 6.9.2).
        package var windowDelta: Int64 = 0
        /// The encoder must keep within this table from its next block on.
        package var headerTableSize: UInt32?

        package init() {}
    }

    package private(set) var headerTableSize: UInt32 = 4_096
    /// Streams that we may have open; without limit by default, so the caller's own limit counts.
    package private(set) var maxConcurrentStreams: UInt32 = .max
    package private(set) var initialWindowSize: UInt32 = 65_535
    /// The largest payload that the peer takes.
    package private(set) var maxFrameSize: UInt32 = 16_384
    package private(set) var maxHeaderListSize: UInt32 = .max
    /// DATA bytes of a stream that may be sent before the 200, never above `TunnelSettings.earlyDataBytesMax`.
    package private(set) var earlyDataBytes: UInt32 = 0
    package private(set) var isCulvert = false

    package init() {}

    package var kind: TunnelSettings.PeerKind { isCulvert ? .culvert : .other }

    /// Takes a SETTINGS frame, which is to be acknowledged afterwards. A fault costs the connection.
    package mutating func apply(_ list: SettingsList) throws(HTTP2Fault) -> Change {
        let windowBefore = initialWindowSize
        var change = Change()
        // By index, not by iterator: no allocation and no existential on a path that a peer can drive.
        for index in 0..<list.count {
            let setting = list[index]
            try apply(setting)
            if setting.identifier == .headerTableSize { change.headerTableSize = setting.value }
        }
        change.windowDelta = Int64(initialWindowSize) - Int64(windowBefore)
        return change
    }

    // MARK: private

    private mutating func apply(_ setting: Setting) throws(HTTP2Fault) {
        switch setting.identifier {
        case .headerTableSize: headerTableSize = setting.value
        case .enablePush:
            guard setting.value <= 1 else { throw .protocolError }
        case .maxConcurrentStreams: maxConcurrentStreams = setting.value
        case .initialWindowSize:
            guard setting.value <= SendWindow.sizeMax else { throw .flowControl }
            initialWindowSize = setting.value
        case .maxFrameSize:
            guard (16_384...16_777_215).contains(setting.value) else { throw .protocolError }
            maxFrameSize = setting.value
        case .maxHeaderListSize: maxHeaderListSize = setting.value
        case TunnelSettings.earlyData:
            isCulvert = true
            earlyDataBytes = min(setting.value, TunnelSettings.earlyDataBytesMax)
        default: break  // section 6.5.2: unknown identifiers are ignored
        }
    }
}
