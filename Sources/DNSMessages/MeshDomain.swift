package import MeshModel

/// What a name means to a workload that asks for it.
package enum NameDecision: Equatable, Sendable {
    case service(ServiceID)
    /// The name stands above names of the mesh, and is none itself.
    case empty
    /// Under the mesh's domain, and not there.
    case nameError
    /// Not ours to answer.
    case forward
}

/// The domain that is the mesh's, and the names of services in it and beside it.
package struct MeshDomain: Equatable, Sendable {
    /// In lower case, without a dot at either end: `mesh.internal`.
    package let text: String
    private let bytes: [UInt8]

    /// Nil for what is no domain, or leaves no room for names below it.
    package init?(_ text: String) {
        let bytes = text.utf8.map(\.asciiLowered)
        let labels = bytes.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard !bytes.isEmpty, bytes.count <= Self.lengthMax,
            labels.allSatisfy({ (1...DNSLimits.labelBytesMax).contains($0.count) }),
            bytes.allSatisfy({ Self.isNameByte($0) })
        else { return nil }
        self.bytes = bytes
        self.text = String(decoding: bytes, as: UTF8.self)
    }

    package static let lengthMax = 64

    /// Where the domain begins in a question's name, counted from the message's start; nil for a name outside of it.
    package func zone(of question: DNSQuestion, _ message: UnsafeRawBufferPointer) -> Int? {
        withText(of: question, message) { name in
            guard let name, prefix(of: name) != nil else { return nil }
            // Behind the domain's labels, each with its length before it, there is the root.
            return question.name.upperBound - bytes.count - 2
        }
    }

    /// `client` is whose namespace a short name is looked up in first.
    package func decide(
        _ question: DNSQuestion, _ message: UnsafeRawBufferPointer, client: WorkloadID, _ snapshot: Snapshot
    ) -> NameDecision {
        guard question.questionClass == DNSClass.internet else { return .forward }
        return withText(of: question, message) { name in
            guard let name, !name.isEmpty else { return .forward }
            if let prefix = prefix(of: name) { return decideBelow(prefix, snapshot) }
            if let service = snapshot.service(named: name, inNamespaceOf: client) ?? snapshot.service(named: name) {
                return .service(service)
            }
            if let short = Self.dropSVC(name), let service = snapshot.service(named: short) {
                return .service(service)
            }
            return .forward
        }
    }

    // MARK: private

    private static let svc = Array("svc".utf8)

    private static func isNameByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"),
            UInt8(ascii: "_"), UInt8(ascii: "."):
            true
        default: false
        }
    }

    private func withText<Result>(
        of question: DNSQuestion, _ message: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer?) -> Result
    ) -> Result {
        withUnsafeTemporaryAllocation(byteCount: DNSLimits.nameBytesMax, alignment: 8) { text in
            let name = UnsafeRawBufferPointer(rebasing: message[question.name])
            guard let count = DNSNames.write(name, to: text) else { return body(nil) }
            return body(UnsafeRawBufferPointer(rebasing: text[..<count]))
        }
    }

    /// What stands before the domain; empty for the domain itself.
    private func prefix(of name: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        let count = name.count - bytes.count
        guard count >= 0, name[count...].elementsEqual(bytes) else { return nil }
        if count == 0 { return UnsafeRawBufferPointer(rebasing: name[..<0]) }
        guard name[count - 1] == UInt8(ascii: ".") else { return nil }
        return UnsafeRawBufferPointer(rebasing: name[..<(count - 1)])
    }

    /// `<service>.<namespace>.svc` is the only form below the domain.
    private func decideBelow(_ prefix: UnsafeRawBufferPointer, _ snapshot: Snapshot) -> NameDecision {
        if prefix.isEmpty || prefix.elementsEqual(Self.svc) { return .empty }
        guard let name = Self.dropSVC(prefix) else { return .nameError }
        if let service = snapshot.service(named: name) { return .service(service) }
        // A namespace: to deny it would deny every name below it (RFC 8020).
        return name.contains(UInt8(ascii: ".")) ? .nameError : .empty
    }

    private static func dropSVC(_ name: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        let count = name.count - svc.count
        guard count > 1, name[count...].elementsEqual(svc), name[count - 1] == UInt8(ascii: ".") else { return nil }
        return UnsafeRawBufferPointer(rebasing: name[..<(count - 1)])
    }
}
