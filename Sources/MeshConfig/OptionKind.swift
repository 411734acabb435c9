import DNSMessages
import MeshModel

/// A value of an option, already checked.
enum OptionValue: Equatable, Sendable {
    case text(String)
    case number(UInt64)
    case address(SocketAddress?)

    var text: String {
        if case .text(let text) = self { return text }
        return ""
    }

    var number: UInt64 {
        if case .number(let number) = self { return number }
        return 0
    }

    /// For options whose upper bound fits.
    var number32: UInt32 { UInt32(truncatingIfNeeded: number) }

    var address: SocketAddress? {
        if case .address(let address) = self { return address }
        return nil
    }
}

/// What an option takes.
enum OptionKind: Sendable {
    case name
    case trustDomain
    /// A DNS domain; nothing for `none`.
    case domain
    case path
    /// A path that fits a Unix socket's address.
    case socketPath
    case choice([String])
    case integer(ClosedRange<UInt64>)
    case duration(ClosedRange<UInt64>)
    case size(ClosedRange<UInt64>)
    case address

    /// sockaddr_un's sun_path, without the NUL.
    static let socketPathLengthMax = 107
    static let pathLengthMax = 1024

    /// For messages ("expected …") and for the documentation.
    var expectation: String {
        switch self {
        case .name: NameRules.expectation
        case .trustDomain: "lower-case letters, digits, `.`, `-` and `_`, at most \(Principal.trustDomainLengthMax)"
        case .domain: "a DNS domain (`mesh.internal`) of at most \(MeshDomain.lengthMax) characters, or `none`"
        case .path: "an absolute path"
        case .socketPath: "an absolute path of at most \(Self.socketPathLengthMax) bytes"
        case .choice(let choices): choices.map { "`\($0)`" }.joined(separator: " or ")
        case .integer(let range): "a whole number from \(range.lowerBound) to \(range.upperBound)"
        case .duration(let range):
            "a duration (`500ms`, `30s`, `5m`, `1h`) from \(DurationText.format(milliseconds: range.lowerBound)) to "
                + DurationText.format(milliseconds: range.upperBound)
        case .size(let range):
            "a size (`512B`, `64KiB`, `16MiB`, `1GiB`) from \(SizeText.format(bytes: range.lowerBound)) to "
                + SizeText.format(bytes: range.upperBound)
        case .address: "an address and a port (`127.0.0.1:15020`, `[::]:15020`) or `none`"
        }
    }

    /// Whether YAML may write it as a number without quotes.
    var takesNumber: Bool {
        if case .integer = self { return true }
        return false
    }

    /// Nil where `text` is not what is expected.
    func value(of text: String) -> OptionValue? {
        switch self {
        case .name: NameRules.isName(text) ? .text(text) : nil
        case .trustDomain: Principal.isTrustDomain(text) ? .text(text) : nil
        case .domain: text == "none" ? .text("") : MeshDomain(text).map { .text($0.text) }
        case .path: Self.isPath(text, lengthMax: Self.pathLengthMax) ? .text(text) : nil
        case .socketPath: Self.isPath(text, lengthMax: Self.socketPathLengthMax) ? .text(text) : nil
        case .choice(let choices): choices.contains(text) ? .text(text) : nil
        case .integer(let range): NameRules.decimal(text).flatMap { Self.bounded($0, range) }
        case .duration(let range):
            DurationText.milliseconds(parsing: text).flatMap { Self.bounded($0, range) }
        case .size(let range): SizeText.bytes(parsing: text).flatMap { Self.bounded($0, range) }
        case .address:
            text == "none" ? .address(nil) : SocketAddress(parsing: text).map { .address($0) }
        }
    }

    // MARK: private

    private static func bounded(_ number: UInt64, _ range: ClosedRange<UInt64>) -> OptionValue? {
        range.contains(number) ? .number(number) : nil
    }

    private static func isPath(_ text: String, lengthMax: Int) -> Bool {
        text.utf8.first == UInt8(ascii: "/") && text.utf8.count <= lengthMax
            && text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7f }
    }
}

/// What names may be made of: they stand in principals, paths, metrics and logs.
enum NameRules {
    static let lengthMax = 253
    static let expectation = "a name of letters, digits, `.`, `-` and `_`, at most \(lengthMax)"

    static func isName(_ text: String) -> Bool { text.utf8.count <= lengthMax && Principal.isPathSegment(text) }

    /// A whole number without sign and leading zeros.
    static func decimal(_ text: String) -> UInt64? {
        guard !text.isEmpty, text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            text.utf8.count == 1 || text.utf8.first != UInt8(ascii: "0")
        else { return nil }
        return UInt64(text)
    }
}
