import CNGHTTP2

/// A connection's HPACK compressor (RFC 7541), libnghttp2's. One for each connection that sends varied blocks; blocks
/// must be sent in the order in which they were encoded.
package struct HeaderEncoder: ~Copyable {
    /// The dynamic table that both directions use at most, in bytes; also the protocol's default.
    package static let tableSizeMax = 4_096

    private let deflater: OpaquePointer

    /// Nil where there is no memory.
    package init?() {
        var deflater: OpaquePointer?
        guard nghttp2_hd_deflate_new(&deflater, HeaderEncoder.tableSizeMax) == 0, let deflater else { return nil }
        self.deflater = deflater
    }

    deinit { nghttp2_hd_deflate_del(deflater) }

    /// Obeys the peer's SETTINGS_HEADER_TABLE_SIZE; the next block tells it (RFC 7541 section 4.2).
    package mutating func limitTable(to size: UInt32) {
        // Fails only for want of memory, after which the smaller table still holds: it never grows past the maximum.
        _ = nghttp2_hd_deflate_change_table_size(deflater, min(Int(size), HeaderEncoder.tableSizeMax))
    }

    /// Bytes that `encode` may need at most.
    package func sizeMax(of fields: borrowing HeaderFields) -> Int {
        withEntries(fields) { nghttp2_hd_deflate_bound(deflater, $0.baseAddress, $0.count) }
    }

    /// Writes the block for `fields` and returns its size. Nil where `bytes` is smaller than `sizeMax`, or without
    /// memory: then the compression state is lost and the connection must go.
    package mutating func encode(_ fields: borrowing HeaderFields, to bytes: UnsafeMutableRawBufferPointer) -> Int? {
        let count = withEntries(fields) { entries in
            nghttp2_hd_deflate_hd(
                deflater, bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count, entries.baseAddress,
                entries.count)
        }
        return count >= 0 ? count : nil
    }

    // MARK: private

    private func withEntries(
        _ fields: borrowing HeaderFields, _ body: (UnsafeMutableBufferPointer<nghttp2_nv>) -> Int
    ) -> Int {
        withUnsafeTemporaryAllocation(of: nghttp2_nv.self, capacity: fields.count) { entries in
            fields.bytes.withUnsafeBufferPointer { bytes in
                guard let base = bytes.baseAddress else { return body(entries) }
                // nghttp2 takes pointers to mutable bytes and does not write to them.
                let mutable = UnsafeMutablePointer(mutating: base)
                var start = 0
                for (index, entry) in fields.entries.enumerated() {
                    let flags = entry.isIndexed ? NGHTTP2_NV_FLAG_NONE : NGHTTP2_NV_FLAG_NO_INDEX
                    let field = nghttp2_nv(
                        name: mutable + start, value: mutable + entry.nameEnd, namelen: entry.nameEnd - start,
                        valuelen: entry.valueEnd - entry.nameEnd, flags: UInt8(truncatingIfNeeded: flags.rawValue))
                    entries.initializeElement(at: index, to: field)
                    start = entry.valueEnd
                }
                return body(entries)
            }
        }
    }
}
