import Glibc

/// Bytes that are overwritten when their last holder lets go: private keys between file, memory and socket.
package final class SecretBytes: @unchecked Sendable {
    private let storage: UnsafeMutableRawBufferPointer

    package init(copying bytes: some Collection<UInt8>) {
        storage = .allocate(byteCount: bytes.count, alignment: 1)
        storage.copyBytes(from: bytes)
    }

    /// Takes the content over: `bytes`, and every copy of the array that still shares its storage, is overwritten.
    package convenience init(taking bytes: inout [UInt8]) {
        self.init(copying: bytes)
        SecretBytes.cleanse(&bytes)
    }

    deinit {
        SecretBytes.cleanse(storage)
        storage.deallocate()
    }

    package var count: Int { storage.count }

    package func withBytes<Result, Failure>(
        _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(storage))
    }

    /// Overwrites an array that held a secret, and empties it. The storage itself is overwritten, so that copies of
    /// the array (of a message that was sent) hold zeros too: nobody may need them any more.
    package static func cleanse(_ bytes: inout [UInt8]) {
        bytes.withUnsafeBytes { cleanse(UnsafeMutableRawBufferPointer(mutating: $0)) }
        bytes = []
    }

    /// Overwrites memory of the caller's; no optimizer drops it.
    package static func cleanse(_ memory: UnsafeMutableRawBufferPointer) {
        if let base = memory.baseAddress { explicit_bzero(base, memory.count) }
    }
}

extension SecretBytes: Equatable {
    package static func == (left: SecretBytes, right: SecretBytes) -> Bool {
        left.withBytes { left in right.withBytes { left.elementsEqual($0) } }
    }
}

extension SecretBytes: CustomStringConvertible {
    /// Never the content: a message that holds a key may be printed.
    package var description: String { "\(count) secret bytes" }
}
