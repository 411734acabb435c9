import CMeshABI
package import HTTP2Framing
package import MeshModel

/// An HBONE request: one application connection that wants to go somewhere. No `:scheme` and no `:path`.
package struct ConnectRequest: Equatable, Sendable {
    package var authority: Authority
    package var forwarded: Forwarded?
    package var traceParent: TraceParent?
    package var baggage: Baggage?

    package init(
        authority: Authority, forwarded: Forwarded? = nil, traceParent: TraceParent? = nil, baggage: Baggage? = nil
    ) {
        self.authority = authority
        self.forwarded = forwarded
        self.traceParent = traceParent
        self.baggage = baggage
    }

    /// Replaces `fields` with the request's. What differs from stream to stream is kept out of the peer's table.
    /// `baggage` is the header's text: the same for all streams of a workload, so its owner keeps it ready.
    package static func write(
        authority: Authority, forwarded: Forwarded?, traceParent: TraceParent?, baggage: String?,
        to fields: inout HeaderFields
    ) {
        fields.removeAll()
        fields.append(":method", "CONNECT")
        fields.append(":authority", authority.description)
        if let baggage, !baggage.isEmpty { fields.append("baggage", baggage) }
        if let forwarded { fields.append("forwarded", forwarded.description, isIndexed: false) }
        if let traceParent { fields.append("traceparent", traceParent.description, isIndexed: false) }
    }
}

/// Reads a request's fields as `HeaderDecoder` hands them out. Strict where a fault could mean two things, tolerant of
/// headers that are missing or unknown.
package struct ConnectRequestReader: Sendable {
    package enum Outcome: Equatable, Sendable {
        case connect(ConnectRequest)
        /// A lawful request that we don't serve: answer with `ConnectResponse.status(for:)`.
        case refused(Reason)
        /// Not HTTP/2: reset the stream with the fault.
        case malformed(HTTP2Fault)
    }

    private enum Method: Sendable { case missing, connect, other }

    private var method = Method.missing
    private var authority: Authority?
    private var isAuthoritySeen = false
    private var isSchemeOrPathSeen = false
    private var isRegularSeen = false
    private var isMalformed = false
    private var forwarded: Forwarded?
    private var traceParent: TraceParent?
    private var baggage: Baggage?
    private let isTelemetryWanted: Bool

    /// `isTelemetryWanted`: whether `traceparent` and `baggage` are read. They decide nothing, and cost more than the
    /// rest of the request.
    package init(isTelemetryWanted: Bool = true) { self.isTelemetryWanted = isTelemetryWanted }

    package mutating func field(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        guard !isMalformed, FieldRules.isLawful(name: name, value: value) else {
            isMalformed = true
            return
        }
        if name.first == UInt8(ascii: ":") {
            isMalformed = isRegularSeen || !pseudoField(name, value)
        } else {
            isRegularSeen = true
            regularField(name, value)
        }
    }

    /// What the block was, once `HeaderDecoder` said `.complete` or `.tooLarge`.
    package func finish(isTooLarge: Bool = false) -> Outcome {
        if isMalformed || method == .missing { return .malformed(.protocolError) }
        if isTooLarge { return .refused(.MESH_REASON_HEADERS_TOO_LARGE) }
        guard method == .connect else { return .refused(.MESH_REASON_NOT_CONNECT) }
        // RFC 9113 section 8.5: a CONNECT has an authority and neither scheme nor path.
        guard isAuthoritySeen, !isSchemeOrPathSeen else { return .malformed(.protocolError) }
        guard let authority else { return .refused(.MESH_REASON_AUTHORITY_MALFORMED) }
        return .connect(
            ConnectRequest(authority: authority, forwarded: forwarded, traceParent: traceParent, baggage: baggage))
    }

    // MARK: private

    /// False for one that comes twice or is unknown; `:protocol` is, since we never announce RFC 8441.
    private mutating func pseudoField(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Bool {
        if name.equals(":method") {
            guard method == .missing else { return false }
            method = value.equals("CONNECT") ? .connect : .other
            return true
        }
        if name.equals(":authority") {
            guard !isAuthoritySeen else { return false }
            isAuthoritySeen = true
            authority = Authority(parsing: value)
            return true
        }
        guard name.equals(":scheme") || name.equals(":path") else { return false }
        isSchemeOrPathSeen = true
        return true
    }

    /// The first of its name counts.
    private mutating func regularField(_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) {
        if name.equals("forwarded") {
            if forwarded == nil { forwarded = Forwarded(parsing: value) }
            return
        }
        guard isTelemetryWanted else { return }
        if name.equals("traceparent") {
            if traceParent == nil { traceParent = TraceParent(parsing: value) }
        } else if name.equals("baggage") {
            if baggage == nil { baggage = Baggage(parsing: value) }
        }
    }
}
