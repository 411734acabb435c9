import CLinux
import CMeshABI
import DNSMessages
import Glibc
import MeshModel
import ProxyControl

/// A workload's TCP connection to a resolver: messages with their lengths before them. Those that ask for names of the
/// mesh are answered here; the others go on over one connection to the resolver that was meant, opened when the first of
/// them comes, and whatever it says comes back in its order.
struct Conversation {
    let loop: LoopPointer
    let record: OpenRecord
    let workload: WorkloadID
    let networkNamespace: NetworkNamespaceID
    var clientEnd: UnsafeMutablePointer<ConversationEnd>
    var resolverEnd: UnsafeMutablePointer<ConversationEnd>
    var client: ConversationSocket
    var resolver = ConversationSocket(descriptor: -1)
    var isConnecting = false
    /// The dial pool was empty.
    var isWaiting = false
    /// Forwarded and not answered.
    var unanswered = 0
    var bytesIn: UInt64 = 0
    var bytesOut: UInt64 = 0
    var timer: TimerPointer?
    /// The first of the resolver's answers waits for meshd.
    var heldToken: UInt64?
    var isDead = false

    /// RFC 7766 section 6.2.3 asks for seconds at least; libraries close themselves.
    static let idleTimeout: UInt64 = 30_000_000_000
    /// What may wait towards one side before nothing more is read for it.
    static let waitingBytesMax = 2 * DNSLimits.messageBytesMax

    var pool: DialPool {
        DialPool(
            purpose: .namesStream, networkNamespace: networkNamespace,
            isIPv6: !record.originalDestination.address.isIPv4)
    }
}

/// One side: what has come and is no whole message yet, and what waits to be written.
struct ConversationSocket {
    var descriptor: Int32
    var incoming: [UInt8] = []
    var outgoing: [UInt8] = []
    var watched: SocketEvents = []
    var hasEnded = false

    var hasRoom: Bool { outgoing.count < Conversation.waitingBytesMax }

    /// The length of the whole message that `incoming` begins with.
    var messageCount: Int? {
        guard incoming.count >= 2 else { return nil }
        let count = Int(incoming[0]) << 8 | Int(incoming[1])
        return incoming.count >= count + 2 ? count : nil
    }

    mutating func queue(_ message: some Collection<UInt8>) {
        outgoing += [UInt8(truncatingIfNeeded: message.count >> 8), UInt8(truncatingIfNeeded: message.count)]
        outgoing += message
    }
}

/// What epoll knows of a conversation's socket.
struct ConversationEnd {
    let kind = ObjectKind.conversationEnd
    let isClient: Bool
    let conversation: ConversationPointer
}

typealias ConversationPointer = UnsafeMutablePointer<Conversation>

extension UnsafeMutablePointer<LoopState> {
    /// Whether a captured connection means a resolver; one that is a service or workload of the mesh is none.
    func isForResolver(_ record: OpenRecord, _ snapshot: Snapshot) -> Bool {
        guard record.originalDestination.port == UInt16(MESH_NAMES_PORT),
            let source = snapshot.workload(record.sourceWorkload)
        else { return false }
        return snapshot.route(network: source.network, destination: record.originalDestination) == nil
    }

    func openConversation(_ descriptor: Int32, _ record: OpenRecord, _ snapshot: Snapshot) {
        guard let source = snapshot.workload(record.sourceWorkload), source.isLocal else {
            return refuseCaptured(descriptor, record, .MESH_REASON_WORKLOAD_NOT_READY)
        }
        guard pointee.names.conversations.count < NameState.conversationsMax,
            pointee.names.begin(record.sourceWorkload)
        else { return refuseCaptured(descriptor, record, .MESH_REASON_NAMES_IN_FLIGHT_LIMIT) }
        var record = record
        record.sourcePrincipal = source.principal
        let conversation = ConversationPointer.allocate(capacity: 1)
        let ends = (0..<2).map { _ in UnsafeMutablePointer<ConversationEnd>.allocate(capacity: 1) }
        ends[0].initialize(to: ConversationEnd(isClient: true, conversation: conversation))
        ends[1].initialize(to: ConversationEnd(isClient: false, conversation: conversation))
        conversation.initialize(
            to: Conversation(
                loop: self, record: record, workload: record.sourceWorkload, networkNamespace: source.networkNamespace,
                clientEnd: ends[0], resolverEnd: ends[1], client: ConversationSocket(descriptor: descriptor)))
        pointee.names.conversations.append(conversation)
        pointee.counters.connections += 1
        pointee.counters.connectionsTotal += 1
        pointee.reports.append(.opened(record))
        conversation.armAgain()
        conversation.watchBoth()
    }
}

extension UnsafeMutablePointer<ConversationEnd> {
    func socketReady(_ events: SocketEvents) {
        pointee.conversation.socketReady(events, isClient: pointee.isClient)
    }

    func timerFired() { pointee.conversation.timerFired() }
}

extension ConversationPointer {
    func socketReady(_ events: SocketEvents, isClient: Bool) {
        guard !pointee.isDead else { return }
        if !isClient && pointee.isConnecting {
            guard events.isConnectOutcome else { return }
            guard Socket.error(of: pointee.resolver.descriptor) == 0 else {
                return end(.MESH_REASON_NAMES_RESOLVER_FAILED)
            }
            pointee.isConnecting = false
        }
        if events.hasAny([.input, .inputEnd, .hangup, .error]) { read(isClient ? \.client : \.resolver) }
        if !pointee.isDead { proceed() }
    }

    func timerFired() {
        pointee.timer = nil
        guard !pointee.isDead else { return }
        if pointee.heldToken != nil { return release() }
        if pointee.isWaiting { return end(.MESH_REASON_NO_DIAL_SOCKET) }
        end(pointee.unanswered > 0 ? .MESH_REASON_NAMES_RESOLVER_TIMEOUT : .MESH_REASON_NONE)
    }

    /// Sends the answer that meshd was asked about, and goes on.
    func release() {
        guard !pointee.isDead, pointee.heldToken != nil else { return }
        pointee.heldToken = nil
        if let count = pointee.resolver.messageCount { deliver(count) }
        armAgain()
        proceed()
    }

    func armAgain() {
        arm(afterNanoseconds: Conversation.idleTimeout)
    }

    private func arm(afterNanoseconds timeout: UInt64) {
        let loop = pointee.loop
        if let timer = pointee.timer { loop.pointee.timers.disarm(timer) }
        pointee.timer = loop.pointee.timers.arm(
            deadline: loop.pointee.now + timeout, owner: pointee.clientEnd)
    }

    /// Connects to the resolver, or waits for a socket to do it with.
    func dial() {
        let loop = pointee.loop
        guard !pointee.isDead, pointee.resolver.descriptor < 0 else { return }
        guard let descriptor = loop.takeDialSocket(pointee.pool) else {
            pointee.isWaiting = true
            loop.pointee.names.isWaitingForSockets = true
            return
        }
        pointee.isWaiting = false
        Socket.setNonBlocking(descriptor)
        Socket.prepareApplication(descriptor)
        pointee.resolver.descriptor = descriptor
        // Programs of an earlier version don't know it: the resolver is then reached as before.
        _ = loop.pointee.shared.kernel.asks(descriptor, pointee.workload.rawValue)
        let code = Socket.connect(
            descriptor, to: pointee.record.originalDestination, isIPv6: pointee.pool.isIPv6)
        guard code == 0 || code == EINPROGRESS else {
            return end(code == EPERM ? .MESH_REASON_DIAL_OUT_OF_SCOPE : .MESH_REASON_NAMES_RESOLVER_FAILED)
        }
        pointee.isConnecting = code != 0
        watchBoth()
    }

    func end(_ reason: Reason) {
        guard !pointee.isDead else { return }
        let loop = pointee.loop
        pointee.isDead = true
        if let timer = pointee.timer { loop.pointee.timers.disarm(timer) }
        pointee.timer = nil
        loop.close(pointee.client.descriptor, resets: reason != .MESH_REASON_NONE)
        if pointee.resolver.descriptor >= 0 { loop.close(pointee.resolver.descriptor, resets: false) }
        loop.pointee.names.ended(pointee.workload)
        loop.pointee.names.conversations.removeAll { $0 == self }
        loop.pointee.names.endedConversations.append(self)
        loop.pointee.counters.connections -= 1
        loop.pointee.counters.count(reason)
        loop.pointee.reports.append(
            .closed(
                ConnectionClosed(
                    id: pointee.record.id, bytesSent: pointee.bytesIn, bytesReceived: pointee.bytesOut, reason: reason,
                    connectMicroseconds: 0, firstByteMicroseconds: 0, closedNanoseconds: loop.pointee.now)))
    }

    // MARK: private

    private static var readBytes: Int { 16_384 }

    private func read(_ side: WritableKeyPath<Conversation, ConversationSocket>) {
        let loop = pointee.loop
        let input = loop.pointee.input
        let count = recv(
            pointee[keyPath: side].descriptor, input.baseAddress, Self.readBytes, Int32(MSG_DONTWAIT))
        if count > 0 {
            pointee[keyPath: side].incoming += input[..<count]
            if side == \.client { pointee.bytesIn += UInt64(count) }
            if pointee.heldToken == nil { armAgain() }
        } else if count == 0 {
            pointee[keyPath: side].hasEnded = true
        } else if errno != EAGAIN && errno != EINTR {
            end(side == \.client ? .MESH_REASON_APPLICATION_RESET : .MESH_REASON_NAMES_RESOLVER_FAILED)
        }
    }

    /// Does all that can be done now, and asks to be told of the rest.
    private func proceed() {
        takeAnswers()
        takeQuestions()
        guard !pointee.isDead else { return }
        write(\.client)
        if !pointee.isDead && pointee.resolver.descriptor >= 0 && !pointee.isConnecting { write(\.resolver) }
        guard !pointee.isDead else { return }
        if pointee.resolver.hasEnded && pointee.resolver.messageCount == nil { resolverEnded() }
        guard !pointee.isDead else { return }
        let isDone = pointee.unanswered == 0 && pointee.client.outgoing.isEmpty && pointee.client.messageCount == nil
        if pointee.client.hasEnded && isDone { return end(.MESH_REASON_NONE) }
        watchBoth()
    }

    private func takeAnswers() {
        let loop = pointee.loop
        while pointee.heldToken == nil, pointee.client.hasRoom, let count = pointee.resolver.messageCount {
            pointee.heldToken = pointee.resolver.incoming[2..<(count + 2)].withUnsafeBytes {
                loop.askForAdmission($0, pointee.workload)
            }
            guard pointee.heldToken == nil else { return arm(afterNanoseconds: HeldAnswer.timeout) }
            deliver(count)
        }
    }

    private func deliver(_ count: Int) {
        pointee.client.queue(pointee.resolver.incoming[2..<(count + 2)])
        pointee.resolver.incoming.removeFirst(count + 2)
        pointee.unanswered = max(0, pointee.unanswered - 1)
    }

    private func takeQuestions() {
        let loop = pointee.loop
        while !pointee.isDead, pointee.client.hasRoom, pointee.resolver.hasRoom,
            let count = pointee.client.messageCount
        {
            let message = Array(pointee.client.incoming[2..<(count + 2)])
            pointee.client.incoming.removeFirst(count + 2)
            message.withUnsafeBytes { bytes in
                switch loop.judge(bytes, pointee.workload) {
                case .drop: end(.MESH_REASON_NAMES_MALFORMED)
                case .forward:
                    loop.pointee.counters.namesForwarded += 1
                    pointee.resolver.queue(message)
                    pointee.unanswered += 1
                    dial()
                case .answer(let query, let answer, let zone):
                    let writer = DNSAnswerWriter(answering: query, bytes, isStream: true, to: loop.pointee.output)
                    let count = writer.write(answer, authority: loop.nameAuthority, zone: zone)
                    pointee.client.queue(loop.pointee.output[..<count])
                }
            }
        }
    }

    private func write(_ side: WritableKeyPath<Conversation, ConversationSocket>) {
        while !pointee[keyPath: side].outgoing.isEmpty {
            let descriptor = pointee[keyPath: side].descriptor
            let count = pointee[keyPath: side].outgoing.withUnsafeBytes {
                Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL | MSG_DONTWAIT))
            }
            guard count > 0 else {
                if errno == EAGAIN || errno == EINTR { return }
                return end(side == \.client ? .MESH_REASON_APPLICATION_RESET : .MESH_REASON_NAMES_RESOLVER_FAILED)
            }
            pointee[keyPath: side].outgoing.removeFirst(count)
            if side == \.client { pointee.bytesOut += UInt64(count) }
        }
    }

    /// It closes what is idle, as it may; what it had not answered is lost with it.
    private func resolverEnded() {
        guard pointee.unanswered == 0 else { return end(.MESH_REASON_NAMES_RESOLVER_FAILED) }
        let loop = pointee.loop
        loop.close(pointee.resolver.descriptor, resets: false)
        pointee.resolver = ConversationSocket(descriptor: -1)
    }

    fileprivate func watchBoth() {
        watch(\.client, pointee.clientEnd, reads: pointee.client.hasRoom && pointee.resolver.hasRoom)
        guard pointee.resolver.descriptor >= 0 else { return }
        watch(\.resolver, pointee.resolverEnd, reads: pointee.client.hasRoom && pointee.heldToken == nil)
    }

    private func watch(
        _ side: WritableKeyPath<Conversation, ConversationSocket>, _ end: UnsafeMutablePointer<ConversationEnd>,
        reads: Bool
    ) {
        let loop = pointee.loop
        let socket = pointee[keyPath: side]
        var wanted: SocketEvents = []
        if reads && !socket.hasEnded { wanted.insert(.input) }
        if !socket.outgoing.isEmpty || (side == \.resolver && pointee.isConnecting) { wanted.insert(.output) }
        guard wanted != socket.watched else { return }
        let operation = socket.watched.isEmpty ? EPOLL_CTL_ADD : wanted.isEmpty ? EPOLL_CTL_DEL : EPOLL_CTL_MOD
        _ = clinux_epoll_control(
            loop.pointee.epoll, operation, socket.descriptor, wanted.rawValue, UInt64(UInt(bitPattern: end)))
        pointee[keyPath: side].watched = wanted
    }
}
