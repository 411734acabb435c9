/// Tells whether a stream identifier that a peer names is new, known or has never been (RFC 9113 section 5.1.1).
/// Identifiers only rise, so the highest one is all there is to keep; streams below it that the caller does not hold
/// any more are closed.
package struct PeerStreams: Sendable {
    package enum Standing: Sendable {
        /// Higher than any before: only HEADERS from a client may name it.
        case new
        /// Open or closed: the caller's table says which.
        case used
    }

    /// The highest identifier that has opened a stream, for GOAWAY; 0: none yet.
    package private(set) var highest: UInt32 = 0

    package init() {}

    @inlinable package func standing(of streamID: UInt32) -> Standing { streamID > highest ? .new : .used }

    /// Notes the opening of a stream: by HEADERS received at a server, sent at a client.
    package mutating func open(_ streamID: UInt32) { highest = max(highest, streamID) }
}
