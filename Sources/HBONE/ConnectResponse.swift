import CMeshABI
package import HTTP2Framing
package import MeshModel

/// The answers to a CONNECT: 200 only after the policy has passed and the application is connected.
package enum ConnectResponse {
    package enum Status: UInt16, Sendable {
        case ok = 200
        case badRequest = 400
        case unauthorized = 401
        case unavailable = 503
    }

    /// The status that ztunnel would give for the like.
    package static func status(for reason: Reason) -> Status {
        switch reason {
        case .MESH_REASON_AUTHORITY_MALFORMED, .MESH_REASON_NOT_CONNECT, .MESH_REASON_AUTHORITY_PRINCIPAL_MISMATCH,
            .MESH_REASON_AUTHORITY_UNKNOWN, .MESH_REASON_HEADERS_TOO_LARGE:
            .badRequest
        case .MESH_REASON_POLICY_DENIED, .MESH_REASON_PRINCIPAL_UNKNOWN, .MESH_REASON_PRINCIPAL_NOT_ON_NODE:
            .unauthorized
        default: .unavailable
        }
    }

    /// What a peer's answer other than 200 means to the application that waits for it.
    package static func reason(for status: UInt16) -> Reason {
        switch status {
        case 401, 403: .MESH_REASON_PEER_DENIED
        default: .MESH_REASON_PEER_REFUSED
        }
    }
}

/// Writes answers' header blocks. They have one field, so a tunnel's server side needs no compressor: its dynamic table
/// is empty for good, and its first block says so (RFC 7541 section 4.2), whatever table the peer allows later.
package struct ConnectResponseEncoder: Sendable {
    /// Bytes that `encode` writes at most.
    package static let sizeMax = 8

    private var hasClosedTable = false

    package init() {}

    /// Writes the block for a status and returns its size. Blocks must be sent in the order of the calls.
    package mutating func encode(_ status: ConnectResponse.Status, to bytes: UnsafeMutableRawBufferPointer) -> Int {
        precondition(bytes.count >= Self.sizeMax)
        var count = 0
        func put(_ byte: UInt8) {
            bytes[count] = byte
            count += 1
        }
        if !hasClosedTable {
            put(0x20)
            hasClosedTable = true
        }
        switch status {
        case .ok: put(0x88)  // :status 200, entry 8 of the static table
        case .badRequest: put(0x8c)  // :status 400, entry 12
        case .unauthorized, .unavailable:
            // Literal without indexing, name of entry 8, three digits.
            put(0x08)
            put(3)
            let code = status.rawValue
            for digit in [code / 100, code / 10 % 10, code % 10] { put(UInt8(ascii: "0") + UInt8(digit)) }
        }
        return count
    }
}

/// Reads an answer's fields as `HeaderDecoder` hands them out.
package struct ConnectResponseReader: Sendable {
    package enum Outcome: Equatable, Sendable {
        /// 200: the stream is open.
        case accepted
        /// 1xx: the answer is still to come.
        case interim
        /// Anything else; `peer_refused` at the operator's end.
        case refused(status: UInt16)
        /// Not HTTP/2: reset the stream with the fault.
        case malformed(HTTP2Fault)
    }

    private var status: UInt16 = 0
    private var isRegularSeen = false
    private var isMalformed = false
    package private(set) var baggage: Baggage?

    package init() {}

    package mutating func field(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        guard !isMalformed, FieldRules.isLawful(name: name, value: value) else {
            isMalformed = true
            return
        }
        guard name.first == UInt8(ascii: ":") else {
            isRegularSeen = true
            if name.equals("baggage"), baggage == nil { baggage = Baggage(parsing: value) }
            return
        }
        guard name.equals(":status"), status == 0, !isRegularSeen, value.count == 3, value.allSatisfy({ $0.isDigit })
        else {
            isMalformed = true
            return
        }
        status = value.reduce(0) { $0 * 10 + UInt16($1 - UInt8(ascii: "0")) }
    }

    /// What the block was, once `HeaderDecoder` said `.complete` or `.tooLarge`: fields past the limits are not needed.
    package func finish(endsStream: Bool) -> Outcome {
        if isMalformed || !(100...599).contains(status) { return .malformed(.protocolError) }
        if status < 200 { return endsStream || status == 101 ? .malformed(.protocolError) : .interim }
        return status == 200 ? .accepted : .refused(status: status)
    }
}
