import ProxyControl

/// Input: one message, read as meshd's and as the proxy's. What was read and is encoded again must read the same.
func fuzzControl(_ input: UnsafeRawBufferPointer) {
    if let message = try? SupervisorMessage(decoding: input) {
        let again = message.encode().withUnsafeBytes { try? SupervisorMessage(decoding: $0) }
        precondition(again == message, "\(message) came back as \(String(describing: again))")
    }
    if let message = try? ProxyMessage(decoding: input) {
        let again = message.encode().withUnsafeBytes { try? ProxyMessage(decoding: $0) }
        precondition(again == message, "\(message) came back as \(String(describing: again))")
    }
}
