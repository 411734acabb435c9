import CLinux
import CMeshABI
import DNSMessages
import Glibc
import MeshModel
import ProxyControl

// DNS queries of this node's workloads, which the kernel side sends here whatever resolver they mean. Names of the mesh
// are answered from the snapshot; all others go on to the resolver that was meant, from the asker's own network namespace.

/// What a loop knows of names that are being asked for.
struct NameState {
    /// Questions on their way to resolvers; the oldest ones are those whose resolvers are silent.
    var forwarded: [ForwardedPointer] = []
    var conversations: [ConversationPointer] = []
    /// Open of both kinds, by who asks.
    private var open: [WorkloadID: Int] = [:]
    var endedQuestions: [ForwardedPointer] = []
    var endedConversations: [ConversationPointer] = []
    var isWaitingForSockets = false
    private var tokens: UInt64 = 0

    static let forwardedMax = 1_024
    static let conversationsMax = 256
    /// Of one workload, so that one whose resolver is dead leaves room for the others.
    static let openPerWorkloadMax = 256

    var isIdle: Bool { forwarded.isEmpty && conversations.isEmpty }

    /// A number for an answer that waits for meshd.
    mutating func makeToken(loop: Int) -> UInt64 {
        tokens += 1
        return UInt64(loop) << 48 | tokens & 0xffff_ffff_ffff
    }

    static func loop(ofToken token: UInt64) -> Int { Int(token >> 48) }

    /// False where there is no room.
    mutating func begin(_ workload: WorkloadID) -> Bool {
        let count = open[workload] ?? 0
        guard count < Self.openPerWorkloadMax else { return false }
        open[workload] = count + 1
        return true
    }

    mutating func ended(_ workload: WorkloadID) {
        let count = open[workload] ?? 0
        open[workload] = count > 1 ? count - 1 : nil
    }
}

/// A question as it came: who asks whom, and where the answer goes.
struct NameAsker {
    var workload: WorkloadID
    var resolver: SocketAddress
    var client: SocketAddress
    /// The listener's number, as it may be closed meanwhile.
    var listener: UInt32
    var networkNamespace: NetworkNamespaceID
}

/// What becomes of a message.
enum NameOutcome {
    case answer(DNSQuery, DNSAnswer, zone: Int?)
    case forward(DNSQuery)
    /// Nobody can be answered.
    case drop
}

extension UnsafeMutablePointer<LoopState> {
    private static var questionsPerTurn: Int { 64 }

    /// Takes what waits at a names listener.
    func receiveQuestions(_ listener: ListenerPointer) {
        for _ in 0..<Self.questionsPerTurn where !listener.pointee.isClosed {
            var sender = clinux_endpoint()
            let count = clinux_receive_from(
                listener.pointee.descriptor, pointee.input.baseAddress, DNSLimits.messageBytesMax, &sender)
            guard count >= 0 else { return }
            let bytes = UnsafeRawBufferPointer(rebasing: pointee.input[..<count])
            let client = SocketAddress(sender)
            let description = listener.pointee.description
            guard
                let question = pointee.shared.kernel.question(
                    listener.pointee.descriptor, client.meshEndpoint, description.address.meshEndpoint)
            else {
                pointee.counters.count(.MESH_REASON_NAMES_QUESTION_UNKNOWN)
                continue
            }
            questionCame(
                bytes,
                NameAsker(
                    workload: WorkloadID(rawValue: question.workload), resolver: SocketAddress(question.resolver),
                    client: client, listener: description.id, networkNamespace: description.networkNamespace))
        }
    }

    private func questionCame(_ bytes: UnsafeRawBufferPointer, _ asker: NameAsker) {
        switch judge(bytes, asker.workload) {
        case .drop: break
        case .answer(let query, let answer, let zone): reply(answer, query, bytes, zone: zone, to: asker)
        case .forward(let query): forward(query, bytes, asker)
        }
    }

    /// Whose business a message is. By UDP and TCP alike.
    func judge(_ bytes: UnsafeRawBufferPointer, _ workload: WorkloadID) -> NameOutcome {
        let query: DNSQuery
        switch DNSQuery.parse(bytes) {
        case .unanswerable:
            pointee.counters.count(.MESH_REASON_NAMES_MALFORMED)
            return .drop
        case .faulty(let faulty, let code):
            pointee.counters.count(.MESH_REASON_NAMES_MALFORMED)
            return .answer(faulty, .failure(code), zone: nil)
        case .query(let parsed): query = parsed
        }
        guard let question = query.question, let domain = pointee.settings.meshDomain, let snapshot = pointee.snapshot
        else { return .forward(query) }
        let decision = domain.decide(question, bytes, client: workload, snapshot)
        guard decision != .forward else { return .forward(query) }
        pointee.counters.namesAnswered += 1
        let zone = domain.zone(of: question, bytes)
        switch decision {
        case .service(let id):
            return .answer(query, .addresses(snapshot.service(id)?.virtualAddresses ?? []), zone: zone)
        case .empty: return .answer(query, .empty, zone: zone)
        case .nameError, .forward: return .answer(query, .nameError, zone: zone)
        }
    }

    var nameAuthority: DNSAuthority {
        DNSAuthority(
            timeToLive: pointee.settings.namesTimeToLive,
            serial: UInt32(truncatingIfNeeded: pointee.snapshot?.version ?? 0))
    }

    func reply(
        _ answer: DNSAnswer, _ query: DNSQuery, _ bytes: UnsafeRawBufferPointer, zone: Int? = nil, to asker: NameAsker
    ) {
        // What came may lie in the input buffer; the output buffer is free between tunnels.
        let writer = DNSAnswerWriter(answering: query, bytes, isStream: false, to: pointee.output)
        let count = writer.write(answer, authority: nameAuthority, zone: zone)
        send(UnsafeRawBufferPointer(rebasing: pointee.output[..<count]), to: asker)
    }

    /// An answer that can't be sent is lost, as any datagram may be: the asker asks again.
    func send(_ bytes: UnsafeRawBufferPointer, to asker: NameAsker) {
        guard let listener = pointee.listeners.first(where: { $0.pointee.description.id == asker.listener }) else {
            return
        }
        var client = asker.client.endpoint
        let isIPv6 = !listener.pointee.description.address.address.isIPv4
        _ = clinux_send_to(listener.pointee.descriptor, bytes.baseAddress, bytes.count, &client, isIPv6 ? 1 : 0)
    }

    // MARK: ends

    func endNames(of workload: WorkloadID) {
        for question in pointee.names.forwarded where question.pointee.asker.workload == workload { question.end() }
        for end in pointee.names.conversations where end.pointee.workload == workload {
            end.end(.MESH_REASON_WORKLOAD_GONE)
        }
    }

    /// No socket may stay: it would keep the network namespace alive.
    func endNames(in namespace: NetworkNamespaceID) {
        for question in pointee.names.forwarded where question.pointee.pool.networkNamespace == namespace {
            question.end()
        }
        for end in pointee.names.conversations where end.pointee.networkNamespace == namespace {
            end.end(.MESH_REASON_WORKLOAD_GONE)
        }
        // What was put back after the control thread had cleared the shelves.
        pointee.shared.dialSockets.close { $0.networkNamespace == namespace }
    }

    func endNames(_ reason: Reason) {
        for question in pointee.names.forwarded { question.end() }
        for end in pointee.names.conversations { end.end(reason) }
    }

    func dialWaitingNames() {
        guard pointee.names.isWaitingForSockets else { return }
        pointee.names.isWaitingForSockets = false
        for question in pointee.names.forwarded where question.pointee.descriptor < 0 { question.dial() }
        for end in pointee.names.conversations where end.pointee.isWaiting { end.dial() }
    }

    func reapNames() {
        while let question = pointee.names.endedQuestions.popLast() {
            question.deinitialize(count: 1)
            question.deallocate()
        }
        while let end = pointee.names.endedConversations.popLast() {
            end.pointee.clientEnd.deallocate()
            end.pointee.resolverEnd.deallocate()
            end.deinitialize(count: 1)
            end.deallocate()
        }
    }
}
