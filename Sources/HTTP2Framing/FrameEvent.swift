/// What `FrameDecoder.next` found. Pointers are into the caller's buffer and end with its next change.
package enum FrameEvent {
    /// Nothing more can be read until the buffer holds this many bytes from the offset on.
    case incomplete(bytesNeeded: Int)
    case data(DataFragment)
    case headers(HeadersFragment)
    /// RST_STREAM.
    case reset(streamID: UInt32, code: ErrorCode)
    /// SETTINGS, complete and of a lawful length; answer with an acknowledgement once applied.
    case settings(SettingsList)
    case settingsAcknowledged
    /// PING: answer one that is no acknowledgement with the same eight bytes.
    case ping(payload: UInt64, isAcknowledgement: Bool)
    /// GOAWAY: streams above `lastStreamID` were not looked at.
    case goAway(lastStreamID: UInt32, code: ErrorCode, debugData: UnsafeRawBufferPointer)
    /// WINDOW_UPDATE, 1...2^31-1; stream 0 is the connection.
    case windowUpdate(streamID: UInt32, increment: UInt32)
    /// PRIORITY or an unknown type (RFC 9113 section 5.5): of no effect, but it counts as a control frame.
    case ignored(type: UInt8)
    /// Reset this stream with the code; the decoder is past the frame.
    case streamFault(streamID: UInt32, HTTP2Fault)
    /// Send GOAWAY with the code and close; the decoder returns the same again.
    case connectionFault(HTTP2Fault)
}

/// Part of a DATA frame, or all of it: handed out as it arrives, so that no frame need ever be held whole.
package struct DataFragment {
    package var streamID: UInt32
    /// May be empty: an empty frame, or one of which only padding is left.
    package var payload: UnsafeRawBufferPointer
    /// Bytes of both windows that this fragment takes: payload, pad length and padding (RFC 9113 section 6.9.1).
    package var flowControlledBytes: UInt32
    /// This is the frame's first fragment: what counts frames counts it here.
    package var startsFrame: Bool
    /// The frame ends here and bore END_STREAM.
    package var endsStream: Bool
    /// The frame has no payload byte and no END_STREAM: the empty DATA that floods are made of.
    package var isEmptyFrame: Bool

    @inlinable package init(
        streamID: UInt32, payload: UnsafeRawBufferPointer, flowControlledBytes: UInt32, startsFrame: Bool,
        endsStream: Bool, isEmptyFrame: Bool
    ) {
        self.streamID = streamID
        self.payload = payload
        self.flowControlledBytes = flowControlledBytes
        self.startsFrame = startsFrame
        self.endsStream = endsStream
        self.isEmptyFrame = isEmptyFrame
    }
}

/// The header block part of one HEADERS or CONTINUATION frame. Every fragment must go to `HeaderDecoder`, for refused
/// and dead streams too: HPACK is the connection's state.
package struct HeadersFragment {
    package var streamID: UInt32
    package var block: UnsafeRawBufferPointer
    /// It came in a HEADERS frame; otherwise in CONTINUATION.
    package var startsBlock: Bool
    package var endsBlock: Bool
    /// The HEADERS frame that began the block bore END_STREAM; the same in all its fragments.
    package var endsStream: Bool
}
