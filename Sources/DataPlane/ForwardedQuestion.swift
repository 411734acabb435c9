import CLinux
import CMeshABI
import DNSMessages
import Glibc
import MeshModel
import ProxyControl

/// A question that waits for its resolver's answer, on a socket of its own: the kernel gives it a random port and takes
/// datagrams only of the resolver's address, and the id is random too, so a stranger has 32 bits to guess.
struct ForwardedQuestion {
    let kind = ObjectKind.forwardedQuestion
    let loop: LoopPointer
    let asker: NameAsker
    let query: DNSQuery
    /// As it came.
    let bytes: [UInt8]
    /// Towards the resolver.
    let id: UInt16
    let pool: DialPool
    var descriptor: Int32 = -1
    var timer: TimerPointer?
    var mismatches = 0
    var held: HeldAnswer?
    var isDead = false

    /// Shorter than the 5 s after which resolver libraries ask again or ask somebody else.
    static let timeout: UInt64 = 4_000_000_000
    /// Datagrams that were not the answer; a guesser does not get more.
    static let mismatchesMax = 32
}

typealias ForwardedPointer = UnsafeMutablePointer<ForwardedQuestion>

extension UnsafeMutablePointer<LoopState> {
    func forward(_ query: DNSQuery, _ bytes: UnsafeRawBufferPointer, _ asker: NameAsker) {
        guard pointee.names.forwarded.count < NameState.forwardedMax, pointee.names.begin(asker.workload) else {
            pointee.counters.count(.MESH_REASON_NAMES_IN_FLIGHT_LIMIT)
            return reply(.failure(.serverFailure), query, bytes, to: asker)
        }
        pointee.counters.namesForwarded += 1
        let question = ForwardedPointer.allocate(capacity: 1)
        question.initialize(
            to: ForwardedQuestion(
                loop: self, asker: asker, query: query, bytes: Array(bytes), id: .random(in: 0...UInt16.max),
                pool: DialPool(
                    purpose: .namesDatagram, networkNamespace: asker.networkNamespace,
                    isIPv6: !asker.resolver.address.isIPv4)))
        pointee.names.forwarded.append(question)
        question.pointee.timer = pointee.timers.arm(
            deadline: pointee.now + ForwardedQuestion.timeout, owner: question)
        question.dial()
    }
}

extension UnsafeMutablePointer<ForwardedQuestion> {
    /// Asks the resolver, or waits for a socket to do it with.
    func dial() {
        let loop = pointee.loop
        guard !pointee.isDead, pointee.held == nil else { return }
        guard let descriptor = loop.takeDialSocket(pointee.pool) else {
            loop.pointee.names.isWaitingForSockets = true
            return
        }
        pointee.descriptor = descriptor
        Socket.setNonBlocking(descriptor)
        // Programs of an earlier version don't know it: the resolver is then reached as before.
        _ = loop.pointee.shared.kernel.asks(descriptor, pointee.asker.workload.rawValue)
        let code = Socket.connect(descriptor, to: pointee.asker.resolver, isIPv6: pointee.pool.isIPv6)
        guard code == 0 else {
            return fail(code == EPERM ? .MESH_REASON_DIAL_OUT_OF_SCOPE : .MESH_REASON_NAMES_RESOLVER_FAILED)
        }
        loop.watch(descriptor, .input, self)
        var bytes = pointee.bytes
        (bytes[0], bytes[1]) = (UInt8(pointee.id >> 8), UInt8(pointee.id & 0xff))
        let sent = bytes.withUnsafeBytes {
            Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
        }
        if sent < 0 && errno != EAGAIN { fail(.MESH_REASON_NAMES_RESOLVER_FAILED) }
    }

    func socketReady() {
        let loop = pointee.loop
        let input = loop.pointee.input
        while !pointee.isDead, pointee.held == nil {
            let count = recv(
                pointee.descriptor, input.baseAddress, DNSLimits.messageBytesMax, Int32(MSG_DONTWAIT))
            if count < 0 {
                if errno == EINTR { continue }
                // The resolver's host says that nobody is there.
                if errno != EAGAIN { fail(.MESH_REASON_NAMES_RESOLVER_FAILED) }
                return
            }
            take(UnsafeMutableRawBufferPointer(rebasing: input[..<count]))
        }
    }

    func timerFired() {
        pointee.timer = nil
        if pointee.held != nil {
            release()
        } else if !pointee.isDead {
            fail(pointee.descriptor < 0 ? .MESH_REASON_NO_DIAL_SOCKET : .MESH_REASON_NAMES_RESOLVER_TIMEOUT)
        }
    }

    /// Sends the answer that meshd was asked about.
    func release() {
        guard !pointee.isDead, let held = pointee.held else { return }
        held.bytes.withUnsafeBytes { send($0) }
        end()
    }

    /// Without a word to the asker.
    func end() {
        guard !pointee.isDead else { return }
        let loop = pointee.loop
        pointee.isDead = true
        if let timer = pointee.timer { loop.pointee.timers.disarm(timer) }
        pointee.timer = nil
        giveSocketBack()
        loop.pointee.names.ended(pointee.asker.workload)
        loop.pointee.names.forwarded.removeAll { $0 == self }
        loop.pointee.names.endedQuestions.append(self)
    }

    // MARK: private

    private func take(_ answer: UnsafeMutableRawBufferPointer) {
        let loop = pointee.loop
        let bytes = UnsafeRawBufferPointer(answer)
        let belongs = pointee.bytes.withUnsafeBytes { asked in
            guard let response = DNSResponse(bytes), response.header.id == pointee.id else { return false }
            return response.answers(bytes, pointee.query, asked)
        }
        guard belongs else {
            loop.pointee.counters.count(.MESH_REASON_NAMES_ANSWER_MISMATCH)
            pointee.mismatches += 1
            if pointee.mismatches > ForwardedQuestion.mismatchesMax { fail(.MESH_REASON_NAMES_ANSWER_MISMATCH) }
            return
        }
        let id = pointee.query.header.id
        (answer[0], answer[1]) = (UInt8(id >> 8), UInt8(id & 0xff))
        if let token = loop.askForAdmission(bytes, pointee.asker.workload) {
            pointee.held = HeldAnswer(token: token, bytes: Array(bytes))
            giveSocketBack()
            if let timer = pointee.timer { loop.pointee.timers.disarm(timer) }
            pointee.timer = loop.pointee.timers.arm(deadline: loop.pointee.now + HeldAnswer.timeout, owner: self)
            return
        }
        send(bytes)
        end()
    }

    private func send(_ answer: UnsafeRawBufferPointer) {
        let loop = pointee.loop
        if answer.count > pointee.query.payloadSize {
            pointee.bytes.withUnsafeBytes { loop.reply(.truncated, pointee.query, $0, to: pointee.asker) }
        } else {
            loop.send(answer, to: pointee.asker)
        }
    }

    private func fail(_ reason: Reason) {
        let loop = pointee.loop
        loop.pointee.counters.count(reason)
        pointee.bytes.withUnsafeBytes { loop.reply(.failure(.serverFailure), pointee.query, $0, to: pointee.asker) }
        end()
    }

    /// The next question has another port: the socket is as new again, and what still comes for this one goes nowhere.
    private func giveSocketBack() {
        let loop = pointee.loop
        let descriptor = pointee.descriptor
        guard descriptor >= 0 else { return }
        pointee.descriptor = -1
        guard clinux_disconnect(descriptor) == 0 else { return loop.close(descriptor, resets: false) }
        loop.unwatch(descriptor)
        var rest: UInt8 = 0
        // A pending error is read as well; a datagram is dropped whole.
        for _ in 0..<64 where recv(descriptor, &rest, 1, Int32(MSG_DONTWAIT)) >= 0 || errno != EAGAIN {}
        loop.pointee.shared.dialSockets.putBack(descriptor, pointee.pool)
    }
}
