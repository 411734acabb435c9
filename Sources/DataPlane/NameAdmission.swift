import DNSMessages
import MeshModel
import ProxyControl

// A workload may call what a name of its EgressPolicy stands for, as soon as it knows what that is: so meshd has the
// addresses of an answer put into the kernel's list before the answer goes on. An answer is not held up for long: without
// meshd the workload is told all the same, and what it then calls is refused.

/// An answer that waits for meshd.
struct HeldAnswer {
    let token: UInt64
    /// As it will be sent.
    let bytes: [UInt8]

    static let timeout: UInt64 = 1_000_000_000
}

extension UnsafeMutablePointer<LoopState> {
    /// Tells meshd of an answer's addresses where the workload's egress depends on them: the number under which meshd
    /// answers. Nil where the answer may go on at once.
    func askForAdmission(_ answer: UnsafeRawBufferPointer, _ workload: WorkloadID) -> UInt64? {
        guard let response = DNSResponse(answer), let question = response.question, response.header.answerCount > 0,
            let view = pointee.snapshot?.egress(of: workload), view.mode == .listed,
            let name = question.text(answer), view.lists(name: name)
        else { return nil }
        var addresses: [IPAddress] = []
        var timeToLive = UInt32.max
        let isWhole = response.forEachAddress(answer) { address, seconds in
            guard addresses.count < NameResolution.addressesMax else { return }
            addresses.append(address)
            timeToLive = min(timeToLive, seconds)
        }
        guard isWhole, !addresses.isEmpty else { return nil }
        let token = pointee.names.makeToken(loop: pointee.index)
        pointee.reports.append(
            .nameResolved(
                NameResolution(
                    token: token, workload: workload, name: name, addresses: addresses, timeToLiveSeconds: timeToLive)))
        return token
    }

    /// One that was sent meanwhile, because meshd took too long, is none any more.
    func nameAdmitted(_ token: UInt64) {
        for question in pointee.names.forwarded where question.pointee.held?.token == token {
            return question.release()
        }
        for conversation in pointee.names.conversations where conversation.pointee.heldToken == token {
            return conversation.release()
        }
    }
}
