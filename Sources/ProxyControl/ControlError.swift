/// Why a control message could not be decoded. The sender is then at fault or another version: close its channel.
package enum ControlError: Error, Equatable, CustomStringConvertible {
    /// The body ends before the named field.
    case truncated(field: StaticText)
    /// The named field holds what no sender of this version writes.
    case invalid(field: StaticText)
    case unknownKind(UInt8)
    /// The message's format is from after this binary and not compatible with it.
    case unknownFormat(UInt8)
    case tooLong(bytes: Int)

    /// A field's name: static, so that a hostile message allocates nothing.
    package struct StaticText: Equatable, CustomStringConvertible, ExpressibleByStringLiteral, Sendable {
        private let text: StaticString
        package init(stringLiteral text: StaticString) { self.text = text }
        package var description: String { text.description }
        package static func == (left: Self, right: Self) -> Bool { left.description == right.description }
    }

    package var description: String {
        switch self {
        case .truncated(let field): "control message ends before \(field)"
        case .invalid(let field): "control message has an impossible \(field)"
        case .unknownKind(let kind): "control message of unknown kind \(kind)"
        case .unknownFormat(let format): "control message of unknown format \(format)"
        case .tooLong(let bytes): "control message of \(bytes) bytes, at most \(ControlLimits.bodyBytesMax) allowed"
        }
    }
}

/// What one message may hold, for both directions.
package enum ControlLimits {
    /// A seqpacket message of 212 kB passes default socket buffers and one of 220 kB does not (EMSGSIZE).
    package static let bodyBytesMax = 160_000
    /// Beside one message; the kernel's own limit is 253 (SCM_MAX_FD).
    package static let descriptorsMax = 128
    /// A SPIFFE ID's own limit. Longer texts are cut by the encoder and refused by the decoder.
    package static let textBytesMax = 2_048
    /// Elements of one list, whatever their size.
    package static let elementsMax = 4_096
}
