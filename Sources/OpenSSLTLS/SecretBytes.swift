import COpenSSL

/// Bytes that are overwritten when their last holder lets go: private keys between file, memory and socket.
package final class SecretBytes: @unchecked Sendable {
    private let storage: UnsafeMutableRawBufferPointer

    private init(count: Int) { storage = .allocate(byteCount: count, alignment: 1) }

    package convenience init(copying bytes: UnsafeRawBufferPointer) {
        self.init(count: bytes.count)
        storage.copyMemory(from: bytes)
    }

    /// Takes the content over: `bytes`, and every copy of the array that still shares its storage, is overwritten.
    package convenience init(taking bytes: inout [UInt8]) {
        self.init(count: bytes.count)
        bytes.withUnsafeBytes { storage.copyMemory(from: $0) }
        SecretBytes.cleanse(&bytes)
    }

    deinit {
        if let base = storage.baseAddress { copenssl_cleanse(base, storage.count) }
        storage.deallocate()
    }

    package var count: Int { storage.count }

    package func withBytes<Result, Failure>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(storage))
    }

    /// Overwrites an array that held a secret, and empties it. The storage itself is overwritten, so that copies of
    /// the array (of a message that was sent, of a decoded one) hold zeros too: nobody may need them any more.
    package static func cleanse(_ bytes: inout [UInt8]) {
        bytes.withUnsafeBytes { shared in
            if let base = shared.baseAddress { copenssl_cleanse(UnsafeMutableRawPointer(mutating: base), shared.count) }
        }
        bytes = []
    }

    /// Overwrites memory of the caller's.
    package static func cleanse(_ memory: UnsafeMutableRawBufferPointer) {
        if let base = memory.baseAddress { copenssl_cleanse(base, memory.count) }
    }
}
