import CMeshABI
package import MeshModel

/// An error code of RST_STREAM and GOAWAY (RFC 9113 section 7). Codes that a peer invents are kept as they are.
package struct ErrorCode: RawRepresentable, Equatable, Sendable {
    package var rawValue: UInt32
    @inlinable package init(rawValue: UInt32) { self.rawValue = rawValue }

    @inlinable package static var noError: ErrorCode { ErrorCode(rawValue: 0x0) }
    @inlinable package static var protocolError: ErrorCode { ErrorCode(rawValue: 0x1) }
    @inlinable package static var internalError: ErrorCode { ErrorCode(rawValue: 0x2) }
    @inlinable package static var flowControlError: ErrorCode { ErrorCode(rawValue: 0x3) }
    @inlinable package static var settingsTimeout: ErrorCode { ErrorCode(rawValue: 0x4) }
    @inlinable package static var streamClosed: ErrorCode { ErrorCode(rawValue: 0x5) }
    @inlinable package static var frameSizeError: ErrorCode { ErrorCode(rawValue: 0x6) }
    /// The stream was not looked at: the sender may try again elsewhere.
    @inlinable package static var refusedStream: ErrorCode { ErrorCode(rawValue: 0x7) }
    @inlinable package static var cancel: ErrorCode { ErrorCode(rawValue: 0x8) }
    @inlinable package static var compressionError: ErrorCode { ErrorCode(rawValue: 0x9) }
    /// A CONNECT's TCP connection was reset (section 8.5).
    @inlinable package static var connectError: ErrorCode { ErrorCode(rawValue: 0xa) }
    @inlinable package static var enhanceYourCalm: ErrorCode { ErrorCode(rawValue: 0xb) }
    @inlinable package static var inadequateSecurity: ErrorCode { ErrorCode(rawValue: 0xc) }
    @inlinable package static var http11Required: ErrorCode { ErrorCode(rawValue: 0xd) }
}

/// What a peer did wrong: the code that it is told and the reason that the operator sees. Whether it costs one stream
/// or the connection is said by where it stands (`FrameEvent.streamFault` or `.connectionFault`).
package struct HTTP2Fault: Error, Equatable, Sendable {
    package var code: ErrorCode
    package var reason: Reason

    @inlinable package init(_ code: ErrorCode, _ reason: Reason) {
        self.code = code
        self.reason = reason
    }

    /// A breach of the protocol with the code PROTOCOL_ERROR.
    package static var protocolError: HTTP2Fault { HTTP2Fault(.protocolError, .MESH_REASON_PROTOCOL_ERROR) }
    /// A frame whose length is wrong for its type, or above the maximum.
    package static var frameSize: HTTP2Fault { HTTP2Fault(.frameSizeError, .MESH_REASON_PROTOCOL_ERROR) }
    /// A window above 2^31-1, or more bytes than a window allowed.
    package static var flowControl: HTTP2Fault {
        HTTP2Fault(.flowControlError, .MESH_REASON_FLOW_CONTROL_ERROR)
    }
    /// A header block that is not HPACK: the compression state is lost, and so is the connection.
    package static var compression: HTTP2Fault {
        HTTP2Fault(.compressionError, .MESH_REASON_PROTOCOL_ERROR)
    }
    /// A header block above the limits.
    package static var headersTooLarge: HTTP2Fault {
        HTTP2Fault(.enhanceYourCalm, .MESH_REASON_HEADERS_TOO_LARGE)
    }
    /// Frames for a stream that both sides have finished.
    package static var streamClosed: HTTP2Fault { HTTP2Fault(.streamClosed, .MESH_REASON_PROTOCOL_ERROR) }
}
