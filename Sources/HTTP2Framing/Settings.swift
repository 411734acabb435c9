/// Identifiers of SETTINGS (RFC 9113 section 6.5.2). Unknown ones are ignored by receivers.
package struct SettingIdentifier: RawRepresentable, Hashable, Sendable {
    package var rawValue: UInt16
    @inlinable package init(rawValue: UInt16) { self.rawValue = rawValue }

    @inlinable package static var headerTableSize: SettingIdentifier { SettingIdentifier(rawValue: 1) }
    @inlinable package static var enablePush: SettingIdentifier { SettingIdentifier(rawValue: 2) }
    @inlinable package static var maxConcurrentStreams: SettingIdentifier { SettingIdentifier(rawValue: 3) }
    @inlinable package static var initialWindowSize: SettingIdentifier { SettingIdentifier(rawValue: 4) }
    @inlinable package static var maxFrameSize: SettingIdentifier { SettingIdentifier(rawValue: 5) }
    @inlinable package static var maxHeaderListSize: SettingIdentifier { SettingIdentifier(rawValue: 6) }
}

/// One identifier and its value.
package struct Setting: Equatable, Sendable {
    /// Bytes on the wire.
    @inlinable package static var size: Int { 6 }

    package var identifier: SettingIdentifier
    package var value: UInt32

    @inlinable package init(_ identifier: SettingIdentifier, _ value: UInt32) {
        self.identifier = identifier
        self.value = value
    }
}

/// The entries of a received SETTINGS frame, read in place and in order (a later one overrides an earlier).
package struct SettingsList: RandomAccessCollection {
    @usableFromInline let payload: UnsafeRawBufferPointer

    /// Bytes that are no multiple of six are left out; the decoder has refused such a frame before.
    @inlinable package init(payload: UnsafeRawBufferPointer) { self.payload = payload }

    @inlinable package var startIndex: Int { 0 }
    @inlinable package var endIndex: Int { payload.count / Setting.size }
    @inlinable package subscript(position: Int) -> Setting {
        let offset = position * Setting.size
        let identifier = UInt16(bigEndian: payload.loadUnaligned(fromByteOffset: offset, as: UInt16.self))
        let value = UInt32(bigEndian: payload.loadUnaligned(fromByteOffset: offset + 2, as: UInt32.self))
        return Setting(SettingIdentifier(rawValue: identifier), value)
    }
}
