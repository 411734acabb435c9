import CLinux
import Glibc
import HTTP2Framing
import MeshModel
import MeshPolicy
import OpenSSLTLS
import ProxyControl

/// Everything that one event loop owns. Its thread alone touches it; what others want comes through the mailbox.
struct LoopState: ~Copyable {
    let index: Int
    let epoll: Int32
    let shared: ProxyShared
    /// `shared.budget` without a reference count, for the byte path; `shared` keeps it alive.
    private let unmanagedBudget: Unmanaged<MemoryBudget>
    let mailbox: Mailbox
    /// CLOCK_BOOTTIME at the beginning of this turn.
    var now: UInt64
    var settings: LoopSettings
    var snapshot: Snapshot?
    var identities = IdentitySet.empty

    // Records
    var chunks: ChunkPool
    var streams = Pool<Stream>()
    var tunnels = Pool<Tunnel>()
    var relayEnds = Pool<RelayEnd>()
    var openings = Pool<Opening>()
    var timers: TimerWheel
    var allStreams = StreamList()
    var firstTunnel: TunnelPointer?
    var firstRelayEnd: RelayEndPointer?
    var listeners: [ListenerPointer] = []

    // This turn's work
    var dirty: TunnelPointer?
    /// Records that ended this turn: events of the same batch may still point to them.
    var endedStreams: [StreamPointer] = []
    var endedTunnels: [TunnelPointer] = []
    var endedRelayEnds: [RelayEndPointer] = []
    var endedListeners: [ListenerPointer] = []
    /// Consecutive DATA of one stream, on its way to the application in one writev.
    var batchStream: StreamPointer?
    var batchCount = 0
    var batchBytes = 0

    // Memory that is used within a turn and never across
    let events: UnsafeMutableBufferPointer<epoll_event>
    let tlsBuffers: TLSBuffersPointer
    let input: UnsafeMutableRawBufferPointer
    let output: UnsafeMutableRawBufferPointer
    let vectors: UnsafeMutableBufferPointer<iovec>
    let batch: UnsafeMutableBufferPointer<iovec>

    // Connection set-up
    var peerNames = PeerNames()
    /// Of the request that is being written.
    var requestFields = HeaderFields()
    var pool: [TunnelKey: TunnelGroup] = [:]
    var nodes: [NodeID: NodeTrouble] = [:]
    /// Nodes whose IPv6 address answered last; the others are dialled at their IPv4 address first.
    var answersOverIPv6: Set<NodeID> = []
    /// Keys whose tunnels lost packets have bound, and when that is forgotten.
    var boundByLoss: [TunnelKey: UInt64] = [:]
    var waitingForSockets = StreamQueue()
    var waitingTunnels: [TunnelPointer] = []
    var waitingRelays: [RelayEndPointer] = []
    var names = NameState()
    /// Relays that had their share of this turn and go on in the next.
    var busyRelays: [RelayEndPointer] = []

    // Policy
    var ruleNames: [DecidingRule: RuleName] = [:]
    /// What ends connections right now; of meaning while they are judged again.
    var denyingRule = RuleName.none

    // Control
    var counters = LoopCounters()
    var reports: [LoopReport] = []
    var nextConnection: UInt64
    var nextSweep: UInt64
    var nextBeat: UInt64
    var isOverloaded = false
    var hadNoCredit = false
    var drainDeadline: UInt64?
    var drainStarted: UInt64 = 0
    /// Another process serves the same sockets.
    var hasHeir = false
    var isDrainReported = false
    var isStopped = false
    var random: SplitMix

    static let eventsMax = 256
    /// Room for one read of 256 KiB from the socket, behind the beginning of a frame and of a record.
    static let inputSize = 262_144 + 65_536
    /// Beyond this what came is used before more is read.
    static let inputReadMax = 229_376
    /// Frames are sealed at `batchSize`; one stream's turn may add `quantumMax` and headers to that.
    static let batchSize = 262_144
    static let quantumMax = 262_144
    static let outputSize = batchSize + quantumMax + 65_536
    static let vectorCount = 64

    init(index: Int, epoll: Int32, shared: ProxyShared, mailbox: Mailbox, settings: LoopSettings, now: UInt64) {
        self.index = index
        self.epoll = epoll
        self.shared = shared
        unmanagedBudget = Unmanaged.passUnretained(shared.budget)
        self.mailbox = mailbox
        self.now = now
        self.settings = settings
        chunks = ChunkPool(budget: shared.budget)
        timers = TimerWheel(now: now)
        input = .allocate(byteCount: Self.inputSize, alignment: 4_096)
        output = .allocate(byteCount: Self.outputSize, alignment: 4_096)
        vectors = .allocate(capacity: Self.vectorCount)
        batch = .allocate(capacity: Self.vectorCount)
        events = .allocate(capacity: Self.eventsMax)
        tlsBuffers = .allocate(capacity: 1)
        events.initialize(repeating: epoll_event())
        tlsBuffers.initialize(to: TLSBuffers())
        vectors.initialize(repeating: iovec())
        batch.initialize(repeating: iovec())
        nextConnection = UInt64(index) << 48 | 1
        nextSweep = now
        nextBeat = now
        random = SplitMix(state: now ^ UInt64(index) &* 0x9e37_79b9_7f4a_7c15)
    }

    func withBudget<Result>(_ body: (MemoryBudget) -> Result) -> Result {
        unmanagedBudget._withUnsafeGuaranteedRef(body)
    }

    deinit {
        input.deallocate()
        output.deallocate()
        vectors.deallocate()
        batch.deallocate()
        events.deallocate()
        tlsBuffers.deinitialize(count: 1)
        tlsBuffers.deallocate()
        _ = close(epoll)
    }
}

typealias LoopPointer = UnsafeMutablePointer<LoopState>

/// Spreads connections over endpoints and makes trace ids: unpredictability is not needed.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }
}

/// A listening socket of this loop.
struct Listener {
    let kind = ObjectKind.listener
    let description: ListenerDescription
    let descriptor: Int32
    var isWatched = false
    var isClosed = false
    /// What is accepted has the listener's socket options, but for what waited in the backlog before it had them.
    var isPassingOptions = false
}

typealias ListenerPointer = UnsafeMutablePointer<Listener>
