import Glibc
import HBONE
import MeshModel
import MeshPolicy

/// What an epoll event points to: the first byte of every record that is registered.
enum ObjectKind: UInt8 {
    case listener = 1
    case tunnel
    case stream
    case relayEnd
    /// The mailbox's eventfd.
    case mailbox
    /// A DNS question on its way to a resolver.
    case forwardedQuestion
    /// One socket of a DNS conversation by TCP.
    case conversationEnd
}

/// One application connection that goes through a tunnel: the application's socket on one side, an HTTP/2 stream on the
/// other. A record in its loop's pool; idle, it is all the memory that a connection takes.
struct Stream {
    enum Phase: UInt8 {
        /// Client: the tunnel is being set up, or another one with room is.
        case waitingForTunnel
        /// Client: CONNECT is sent, the answer has not come.
        case requested
        /// Server: allowed, but the dial pool is empty.
        case waitingForSocket
        /// Server: connect() is under way.
        case connecting
        case open
    }

    struct Flags: OptionSet {
        let rawValue: UInt16
        /// The socket may have bytes, an end or an error to read.
        static let readable = Flags(rawValue: 1 << 0)
        static let writable = Flags(rawValue: 1 << 1)
        /// The kernel has told the end or an error: no further event comes, so reading goes on until it is seen.
        static let hangup = Flags(rawValue: 1 << 2)
        /// A write failed or the kernel reported an error: what looks like an end now is a reset.
        static let broken = Flags(rawValue: 1 << 3)
        /// In its tunnel's scheduler.
        static let queued = Flags(rawValue: 1 << 4)
        /// In the scheduler's queue of short ones.
        static let fresh = Flags(rawValue: 1 << 5)
        /// FIN is due once what is held is written.
        static let finishWanted = Flags(rawValue: 1 << 6)
        static let finished = Flags(rawValue: 1 << 7)
        /// Nobody wants more of the application: close in order once what is held is written.
        static let closeWanted = Flags(rawValue: 1 << 8)
        /// In its tunnel's table: frames still go over the wire.
        static let attached = Flags(rawValue: 1 << 9)
        static let dead = Flags(rawValue: 1 << 10)
        /// `opened` was reported, `closed` must follow.
        static let reported = Flags(rawValue: 1 << 11)
        /// The stream counts in its tunnel's limits.
        static let counted = Flags(rawValue: 1 << 12)
        /// In the loop's queue of those that wait for a dial socket.
        static let waiting = Flags(rawValue: 1 << 13)
        /// What it said in a tunnel that refused it goes out again before anything else.
        static let repeats = Flags(rawValue: 1 << 14)
        /// There is, or may be, something to send.
        static let input: Flags = [.readable, .repeats]
    }

    let kind = ObjectKind.stream
    var phase: Phase
    var flags: Flags = []
    var descriptor: Int32
    var id: UInt32 = 0
    /// Bytes that the scheduler still lets it send in its turn.
    var deficit: Int32 = 0
    var state: StreamState
    var sendWindow = SendWindow(initial: 65_535)
    var receiveWindow = ReceiveWindow()
    /// From the tunnel, not yet taken by the application.
    var held = ByteQueue()
    var loop: LoopPointer
    /// The tunnel that it belongs or last belonged to; nil when that is gone.
    var tunnel: TunnelPointer?
    var timer: TimerPointer?
    /// What is only needed until it is open.
    var opening: UnsafeMutablePointer<Opening>?
    var queuePrevious: StreamPointer?
    var queueNext: StreamPointer?
    var listPrevious: StreamPointer?
    var listNext: StreamPointer?
    // For its record.
    var connectionID: UInt64 = 0
    var openedAt: UInt64
    /// When the application last took bytes that were held.
    var progressAt: UInt64 = 0
    var bytesToTunnel: UInt64 = 0
    var bytesFromTunnel: UInt64 = 0
    var connectMicroseconds: UInt32 = 0
    var firstByteMicroseconds: UInt32 = 0
    /// The workload of this node whose connection it is.
    var workload = WorkloadID.none
    /// Server: what its verdict depends on.
    var live = LiveConnection()
    var announcement = Announcement()

    init(_ phase: Phase, descriptor: Int32, state: StreamState, loop: LoopPointer, now: UInt64) {
        self.phase = phase
        self.descriptor = descriptor
        self.state = state
        self.loop = loop
        openedAt = now
    }
}

typealias StreamPointer = UnsafeMutablePointer<Stream>

/// What a stream needs until it is open, kept apart so that an open one is small.
struct Opening {
    enum Side {
        /// Towards a tunnel: for the CONNECT, again if another tunnel must be tried.
        case client(OutboundRequest)
        /// Towards an application.
        case server(ApplicationDial)
    }

    var side: Side
    var record: OpenRecord
    var attempts = 0
    var early = EarlyData()
}

/// What an outbound connection asks of its peer node.
struct OutboundRequest {
    var key: TunnelKey
    /// The endpoint's address and port.
    var authority: SocketAddress
    /// The application's own address.
    var client: SocketAddress
    let workload: WorkloadID
    /// Whose virtual address it dialled, if it was one.
    let service: ServiceID
}

/// An application connection that was allowed and is being made. Only a Permit makes one.
struct ApplicationDial {
    let permit: Permit
    /// What the application is shown as its client.
    let presented: SocketAddress
    let networkNamespace: NetworkNamespaceID

    init(permit: Permit, presented: SocketAddress, networkNamespace: NetworkNamespaceID) {
        self.permit = permit
        self.presented = presented
        self.networkNamespace = networkNamespace
    }
}

/// Streams in a doubly linked list through `listNext`.
struct StreamList {
    private(set) var first: StreamPointer?
    private(set) var count = 0

    mutating func insert(_ stream: StreamPointer) {
        stream.pointee.listPrevious = nil
        stream.pointee.listNext = first
        first?.pointee.listPrevious = stream
        first = stream
        count += 1
    }

    mutating func remove(_ stream: StreamPointer) {
        if let previous = stream.pointee.listPrevious {
            previous.pointee.listNext = stream.pointee.listNext
        } else {
            first = stream.pointee.listNext
        }
        stream.pointee.listNext?.pointee.listPrevious = stream.pointee.listPrevious
        count -= 1
    }
}
