import HBONE
import HTTP2Framing

extension Authority {
    init?(_ text: String) {
        guard let authority = Array(text.utf8).withUnsafeBytes({ Authority(parsing: $0) }) else { return nil }
        self = authority
    }
}

extension Forwarded {
    init?(_ text: String) {
        guard let forwarded = Array(text.utf8).withUnsafeBytes({ Forwarded(parsing: $0) }) else { return nil }
        self = forwarded
    }
}

extension TraceParent {
    init?(_ text: String) {
        guard let parent = Array(text.utf8).withUnsafeBytes({ TraceParent(parsing: $0) }) else { return nil }
        self = parent
    }
}

extension Baggage {
    init?(_ text: String) {
        guard let baggage = Array(text.utf8).withUnsafeBytes({ Baggage(parsing: $0) }) else { return nil }
        self = baggage
    }
}

/// Fields as a peer might send them, lawful or not.
func withField(_ field: (String, String), _ body: (UnsafeRawBufferPointer, UnsafeRawBufferPointer) -> Void) {
    Array(field.0.utf8).withUnsafeBytes { name in
        Array(field.1.utf8).withUnsafeBytes { value in body(name, value) }
    }
}

func read(request fields: [(String, String)], isTooLarge: Bool = false) -> ConnectRequestReader.Outcome {
    var reader = ConnectRequestReader()
    for field in fields { withField(field) { reader.field($0, $1) } }
    return reader.finish(isTooLarge: isTooLarge)
}

func read(response fields: [(String, String)], endsStream: Bool = false) -> ConnectResponseReader.Outcome {
    var reader = ConnectResponseReader()
    for field in fields { withField(field) { reader.field($0, $1) } }
    return reader.finish(endsStream: endsStream)
}
