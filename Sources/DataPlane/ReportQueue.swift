import CLinux
import CMeshABI
import Glibc
import MeshModel
import ProxyControl
import Synchronization

/// What a loop tells the control thread, which puts names to the numbers and sends it on to meshd.
enum LoopReport: Sendable {
    case opened(OpenRecord)
    case closed(ConnectionClosed)
    case refused(PeerRefusal)
    case needDialSockets(DialPool, UInt32)
    case nodeUnreachable(NodeID, errno: Int32, Reason)
    case nodeReachable(NodeID)
    case tunnels([TunnelStatus])
    /// The receiver owns the descriptor.
    case listener(ListenerDescription, descriptor: Int32)
    case nameResolved(NameResolution)
    /// The loop has nothing open any more.
    case drained(loop: Int)

    /// Records may be lost when meshd is away for long; the rest changes what meshd does.
    var isRecord: Bool {
        switch self {
        case .opened, .closed, .refused: true
        case .needDialSockets, .nodeUnreachable, .nodeReachable, .tunnels, .listener, .drained, .nameResolved: false
        }
    }
}

/// A decided connection, in numbers: names are looked up where there is time for it.
struct OpenRecord: Sendable {
    var id: UInt64
    var direction: ConnectionDirection
    var cookie: UInt64
    var dialCookie: UInt64 = 0
    var sourceWorkload = WorkloadID.none
    var destinationWorkload = WorkloadID.none
    var service = ServiceID.none
    var sourcePrincipal = PrincipalID.none
    var destinationPrincipal = PrincipalID.none
    var source: SocketAddress
    var originalDestination: SocketAddress
    var upstream: SocketAddress
    var peerNode = NodeID.none
    var tunnel: UInt32 = 0
    var isAllowed = true
    var reason = Reason.MESH_REASON_NONE
    var policyGeneration: UInt32 = 0
    var decidedBy = RuleName.none
    var dryRunDenial = RuleName.none
    var openedNanoseconds: UInt64
}

/// Reports of all loops on their way to the control thread. Bounded: when meshd does not listen, records are counted
/// and dropped, never connections held up.
final class ReportQueue: Sendable {
    static let recordsMax = 65_536

    private struct State {
        var reports: [LoopReport] = []
        var recordsLost: UInt64 = 0
    }

    let wake: Int32
    private let state = Mutex(State())

    init() { wake = clinux_eventfd() }
    deinit { _ = close(wake) }

    var recordsLost: UInt64 { state.withLock { $0.recordsLost } }

    func post(_ batch: [LoopReport]) {
        let isFirst = state.withLock { state in
            let wasEmpty = state.reports.isEmpty
            guard state.reports.count + batch.count > Self.recordsMax else {
                state.reports.append(contentsOf: batch)
                return wasEmpty && !batch.isEmpty
            }
            for report in batch {
                if report.isRecord && state.reports.count >= Self.recordsMax {
                    state.recordsLost += 1
                } else {
                    state.reports.append(report)
                }
            }
            return wasEmpty && !state.reports.isEmpty
        }
        guard isFirst else { return }
        var one: UInt64 = 1
        _ = write(wake, &one, 8)
    }

    /// Exchanges what is there for `reports`, which must be empty and whose memory is used on. `wake` is watched for
    /// edges, so that nobody reads it.
    func takeAll(into reports: inout [LoopReport]) {
        state.withLock { swap(&$0.reports, &reports) }
    }

    /// Records that were taken but could not be sent.
    func lose(_ count: Int) { state.withLock { $0.recordsLost += UInt64(count) } }
}
