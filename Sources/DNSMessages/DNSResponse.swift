package import MeshModel

/// A message that answers, as far as a forwarder has to know it.
package struct DNSResponse: Sendable {
    package let header: DNSHeader
    package let question: DNSQuestion?

    /// Nil for what answers nothing.
    package init?(_ bytes: UnsafeRawBufferPointer) {
        guard let header = DNSHeader(bytes), header.isResponse, header.questionCount <= 1 else { return nil }
        self.header = header
        if header.questionCount == 1 {
            guard let question = DNSQuestion(bytes, at: DNSHeader.byteCount) else { return nil }
            self.question = question
        } else {
            question = nil
        }
    }

    /// Whether it answers `query`, given that its id and source are right. A server that refuses may leave the question
    /// out (RFC 1035 says nothing of it; some do on FORMERR and REFUSED), but then it gives no answers either.
    package func answers(
        _ bytes: UnsafeRawBufferPointer, _ query: DNSQuery, _ queryBytes: UnsafeRawBufferPointer
    ) -> Bool {
        guard header.operation == query.header.operation else { return false }
        guard let asked = query.question else { return true }
        guard let question else { return header.answerCount == 0 && header.responseCode != .noError }
        return question.isSame(bytes, as: asked, queryBytes)
    }

    /// Addresses of the answer section with the seconds that they may be used. False where the message is malformed:
    /// what came before is then not to be used either.
    package func forEachAddress(
        _ bytes: UnsafeRawBufferPointer, _ body: (IPAddress, _ timeToLive: UInt32) -> Void
    ) -> Bool {
        var records = DNSRecords(bytes, from: question?.end ?? DNSHeader.byteCount, counts: header)
        while let record = records.next() {
            guard record.section == .answer, let address = record.address(bytes) else { continue }
            body(address, record.timeToLive)
        }
        return !records.isMalformed
    }
}
