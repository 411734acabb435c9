import CNGHTTP2

/// A connection's HPACK expander (RFC 7541), libnghttp2's. It takes a block in fragments as they come, so that nothing
/// is put together first, and must see every block of the connection, those of refused and dead streams included.
package struct HeaderDecoder: ~Copyable {
    package enum Outcome: Equatable, Sendable {
        /// The block goes on in the next fragment.
        case more
        /// The block is over and its fields have all been handed out.
        case complete
        /// The block is over, but above the limits, and what followed was not handed out: refuse the stream. The
        /// connection is unharmed.
        case tooLarge
        /// The connection must go.
        case failed(HTTP2Fault)
    }

    /// What a block may expand to, counted as SETTINGS_MAX_HEADER_LIST_SIZE counts: name, value and 32 bytes a field.
    package static let listSizeMaxDefault = 16_384
    package static let fieldsMaxDefault = 64
    /// Times `listSizeMax` at which a block costs the connection and not only its stream: it is no mistake any more.
    static let abuseFactor = 16

    private let inflater: OpaquePointer
    private let listSizeMax: Int
    private let fieldsMax: Int
    private var listSize = 0
    private var fields = 0
    private var isFailed = false

    /// Nil where there is no memory.
    package init?(listSizeMax: Int = listSizeMaxDefault, fieldsMax: Int = fieldsMaxDefault) {
        var inflater: OpaquePointer?
        guard nghttp2_hd_inflate_new(&inflater) == 0, let inflater else { return nil }
        self.inflater = inflater
        self.listSizeMax = listSizeMax
        self.fieldsMax = fieldsMax
    }

    deinit { nghttp2_hd_inflate_del(inflater) }

    /// Expands the next fragment and calls `field` with each field that it completes; the memory ends with the call.
    /// `isLast` is END_HEADERS. Pass a closure that does nothing for streams that nobody asks about.
    package mutating func decode(
        _ fragment: UnsafeRawBufferPointer, isLast: Bool,
        field: (_ name: UnsafeRawBufferPointer, _ value: UnsafeRawBufferPointer) -> Void
    ) -> Outcome {
        guard !isFailed else { return .failed(.compression) }
        var rest = fragment
        while true {
            var entry = nghttp2_nv()
            var flags: Int32 = 0
            let count = nghttp2_hd_inflate_hd2(
                inflater, &entry, &flags, rest.baseAddress?.assumingMemoryBound(to: UInt8.self), rest.count,
                isLast ? 1 : 0)
            guard count >= 0 else { return fail(.compression) }
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            let isField = UInt32(bitPattern: flags) & UInt32(NGHTTP2_HD_INFLATE_EMIT.rawValue) != 0
            if isField {
                let name = UnsafeRawBufferPointer(start: entry.name, count: entry.namelen)
                let value = UnsafeRawBufferPointer(start: entry.value, count: entry.valuelen)
                listSize += name.count + value.count + 32
                fields += 1
                guard listSize <= listSizeMax * Self.abuseFactor else { return fail(.headersTooLarge) }
                if listSize <= listSizeMax && fields <= fieldsMax { field(name, value) }
            }
            if UInt32(bitPattern: flags) & UInt32(NGHTTP2_HD_INFLATE_FINAL.rawValue) != 0 { return endBlock() }
            if !isField && rest.isEmpty { return isLast ? fail(.compression) : .more }
        }
    }

    // MARK: private

    private mutating func endBlock() -> Outcome {
        nghttp2_hd_inflate_end_headers(inflater)
        let isWithinLimits = listSize <= listSizeMax && fields <= fieldsMax
        listSize = 0
        fields = 0
        return isWithinLimits ? .complete : .tooLarge
    }

    private mutating func fail(_ fault: HTTP2Fault) -> Outcome {
        isFailed = true
        return .failed(fault)
    }
}
