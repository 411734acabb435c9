import DNSMessages
import MeshModel
import ProxyControl
import Synchronization

/// What all loops and the control thread share. Everything in it is either immutable or guarded, and nothing of it is
/// touched per byte.
final class ProxyShared: Sendable {
    let budget: MemoryBudget
    let descriptors: DescriptorCount
    let dialSockets: DialSockets
    let directory = TunnelDirectory()
    let reports = ReportQueue()
    let kernel: KernelInterface
    let tunnelCount = Atomic<Int>(0)
    let isDraining = Atomic<Bool>(false)
    private let nextTunnelID = Atomic<UInt32>(1)
    private let loopCounters: Mutex<[LoopCounters]>
    private let mailboxes: Mutex<[Mailbox]>

    init(settings: ProxySettings, kernel: KernelInterface) {
        budget = MemoryBudget(limit: Int(clamping: settings.memoryBudget))
        descriptors = DescriptorCount(limit: Int(settings.descriptorsMax))
        dialSockets = DialSockets(descriptors: descriptors)
        self.kernel = kernel
        loopCounters = Mutex([])
        mailboxes = Mutex([])
    }

    func addLoop(_ mailbox: Mailbox) {
        mailboxes.withLock { $0.append(mailbox) }
        loopCounters.withLock { $0.append(LoopCounters()) }
    }

    func mailbox(of loop: Int) -> Mailbox? {
        mailboxes.withLock { $0.indices.contains(loop) ? $0[loop] : nil }
    }

    func postToAll(_ message: LoopMessage) {
        for mailbox in mailboxes.withLock({ $0 }) { mailbox.post(message) }
    }

    func publish(_ counters: LoopCounters, loop: Int) {
        loopCounters.withLock { if $0.indices.contains(loop) { $0[loop] = counters } }
    }

    func takeTunnelID() -> UInt32 { nextTunnelID.add(1, ordering: .relaxed).oldValue }

    /// Overload by descriptors or memory: nothing new is accepted.
    var isOverloaded: Bool { descriptors.isTight || budget.isTight }

    func counters() -> ProxyCounters {
        var sum = ProxyCounters()
        for counters in loopCounters.withLock({ $0 }) { sum.add(counters) }
        sum.memoryHeld = UInt64(clamping: budget.held)
        sum.memoryBudget = UInt64(clamping: budget.limit)
        sum.descriptors = UInt32(clamping: descriptors.count)
        sum.descriptorsMax = UInt32(clamping: descriptors.limit)
        sum.isOverloaded = isOverloaded
        sum.recordsLost = reports.recordsLost
        return sum
    }
}

/// The settings that loops work with, times in nanoseconds.
struct LoopSettings: Sendable {
    var tunnelsMax: Int
    var tunnelsUnderLossMax: Int
    var streamsPerTunnelMax: UInt32
    var handshakeTimeout: UInt64
    var headersTimeout: UInt64
    var connectTimeout: UInt64
    var idleTunnelTimeout: UInt64
    var pingInterval: UInt64
    var pingTimeout: UInt64
    var slowPeerTimeout: UInt64
    var beatInterval: UInt64
    var tunnelPort: UInt16
    /// Nil: names are not the mesh's to answer.
    var meshDomain: MeshDomain?
    var namesTimeToLive: UInt32
    var cluster: String

    init(_ settings: ProxySettings) {
        tunnelsMax = Int(settings.tunnelsMax)
        tunnelsUnderLossMax = Int(settings.tunnelsUnderLossMax)
        streamsPerTunnelMax = settings.streamsPerTunnelMax
        handshakeTimeout = UInt64(settings.handshakeTimeoutMilliseconds) * 1_000_000
        headersTimeout = UInt64(settings.headersTimeoutMilliseconds) * 1_000_000
        connectTimeout = UInt64(settings.connectTimeoutMilliseconds) * 1_000_000
        idleTunnelTimeout = UInt64(settings.idleTunnelTimeoutMilliseconds) * 1_000_000
        pingInterval = UInt64(settings.pingIntervalMilliseconds) * 1_000_000
        pingTimeout = UInt64(settings.pingTimeoutMilliseconds) * 1_000_000
        slowPeerTimeout = UInt64(settings.slowPeerTimeoutMilliseconds) * 1_000_000
        beatInterval = UInt64(max(settings.beatIntervalMilliseconds, 10)) * 1_000_000
        tunnelPort = settings.tunnelPort
        meshDomain = MeshDomain(settings.meshDomain)
        namesTimeToLive = settings.namesTimeToLiveSeconds
        cluster = settings.cluster
    }
}
