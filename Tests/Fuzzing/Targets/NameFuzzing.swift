import DNSMessages
import MeshModel

/// Input: one message. As a query it is decided and answered in every way, and each answer must read as one to it; as an
/// upstream's answer its addresses are read.
func fuzzNames(_ input: UnsafeRawBufferPointer) {
    if let response = DNSResponse(input) {
        var addresses = 0
        _ = response.forEachAddress(input) { _, _ in addresses += 1 }
        precondition(addresses <= Int(response.header.answerCount), "more addresses than answers")
        if case .query(let query) = DNSQuery.parse(input) { preconditionFailure("both asks and answers: \(query)") }
    }
    switch DNSQuery.parse(input) {
    case .unanswerable: return
    case .faulty(let query, let code): check(.failure(code), query, input, zone: nil)
    case .query(let query):
        var zone: Int?
        if let question = query.question, let snapshot = FuzzedNames.snapshot, let domain = FuzzedNames.domain {
            let decision = domain.decide(question, input, client: WorkloadID(rawValue: 1), snapshot)
            zone = domain.zone(of: question, input)
            let isBelow = decision == .empty || decision == .nameError
            precondition(!isBelow || zone != nil, "\(decision) for a name outside of the domain")
            precondition(zone.map { question.name.contains($0) } ?? true, "a zone outside of the name")
        }
        let addresses = (1...200).map { IPAddress(ipv4: 0x0a60_0000 | UInt32($0)) } + [IPAddress(high: 1, low: 2)]
        for answer in [
            DNSAnswer.addresses(addresses), .addresses([]), .empty, .nameError, .failure(.serverFailure), .truncated,
        ] { check(answer, query, input, zone: zone) }
    }
}

private enum FuzzedNames {
    static let domain = MeshDomain("mesh.internal")
    static let snapshot: Snapshot? = {
        var builder = SnapshotBuilder(localNode: "a", trustDomain: "fuzzed")
        return try? builder.build(
            ResourceSet(services: [
                ServiceResource(name: "web", namespace: "shop"), ServiceResource(name: "a.b", namespace: "c.d"),
            ]))
    }()
}

private func check(_ answer: DNSAnswer, _ query: DNSQuery, _ input: UnsafeRawBufferPointer, zone: Int?) {
    for isStream in [false, true] {
        withUnsafeTemporaryAllocation(byteCount: DNSLimits.messageBytesMax, alignment: 8) { output in
            let writer = DNSAnswerWriter(answering: query, input, isStream: isStream, to: output)
            let count = writer.write(answer, authority: DNSAuthority(timeToLive: 9, serial: 1), zone: zone)
            let written = UnsafeRawBufferPointer(rebasing: output[..<count])
            precondition(isStream || count <= query.payloadSize, "an answer longer than the asker takes")
            guard let response = DNSResponse(written) else { preconditionFailure("our own answer is not readable") }
            precondition(response.header.id == query.header.id, "another id")
            precondition(response.answers(written, query, input), "not an answer to its question")
            precondition(
                response.forEachAddress(written) { _, life in
                    precondition(life <= DNSAuthority.timeToLiveMax, "an address that lives too long")
                }, "our own answer is malformed")
        }
    }
}
