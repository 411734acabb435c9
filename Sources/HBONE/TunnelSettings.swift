// HBONE gives HTTP/2 streams the meaning that the mesh's wire has, which is Istio's: which SETTINGS a tunnel sends,
// what a CONNECT request and its answer say, how far each window reaches, and what an end or a reset on one side means
// for the other. It is pure: values and small state machines that return what is to be done. DataPlane does it, and
// hands in what HTTP2Framing has read. It decides nothing about who may go where: that is MeshPolicy's.

package import HTTP2Framing

/// What this end of a tunnel announces.
package enum TunnelSettings {
    /// Which mesh the peer belongs to, as far as its SETTINGS tell.
    package enum PeerKind: Sendable {
        /// It announced `earlyData`.
        case culvert
        /// ztunnel, Envoy, or one whose SETTINGS have not come yet.
        case other
    }

    /// Private identifier from the range for experiments (RFC 9113 section 11.3): the value is how many DATA bytes of a
    /// stream the sender of the setting takes before it has answered the CONNECT. It also says that the sender is a
    /// Culvert.
    package static let earlyData = SettingIdentifier(rawValue: 0xf0c5)
    /// The most that is ever sent early, whatever a peer announces: it is kept until the 200 so that it can go to
    /// another endpoint.
    package static let earlyDataBytesMax: UInt32 = 65_536
    /// Every stream starts with this window in both directions of our tunnels; growth is by WINDOW_UPDATE.
    package static let initialWindowSize: UInt32 = 65_536
    /// Compressed state is bounded by the protocol's default table; this bounds what a block expands to.
    package static let headerListSizeMax = UInt32(HeaderDecoder.listSizeMaxDefault)

    /// Streams that a server lets a client of this kind have at once.
    package static func streamsMax(_ kind: PeerKind) -> UInt32 { kind == .culvert ? 10_000 : 1_000 }

    /// What a client sends behind its preface.
    package static let client: [Setting] = [
        Setting(.enablePush, 0),
        Setting(.initialWindowSize, initialWindowSize),
        Setting(.maxFrameSize, UInt32(FrameHeader.payloadSizeDefault)),
        Setting(.maxHeaderListSize, headerListSizeMax),
        Setting(earlyData, earlyDataBytesMax),
    ]

    /// What a server sends first. A server that has not seen the client's SETTINGS takes it for `.other`, and sends
    /// `raisedStreams` once it knows better.
    package static func server(_ kind: PeerKind) -> [Setting] {
        [
            Setting(.maxConcurrentStreams, streamsMax(kind)),
            Setting(.initialWindowSize, initialWindowSize),
            Setting(.maxFrameSize, UInt32(FrameHeader.payloadSizeDefault)),
            Setting(.maxHeaderListSize, headerListSizeMax),
            Setting(earlyData, earlyDataBytesMax),
        ]
    }

    /// What a server sends to a client that turned out to be a Culvert.
    package static let raisedStreams: [Setting] = [Setting(.maxConcurrentStreams, streamsMax(.culvert))]
}
