/// How long a certificate is to live, as people write it: a whole number and a unit, `30d`, `12h`, `90m`, `600s`.
package struct CertificateLifetime: Equatable, Sendable {
    package let seconds: Int64

    /// A hundred years: dates beyond that are a slip.
    package static let secondsMax: Int64 = 36_500 * 86_400

    package init?(parsing text: some StringProtocol) {
        let factor: Int64
        switch Array(text.utf8).last {
        case UInt8(ascii: "s"): factor = 1
        case UInt8(ascii: "m"): factor = 60
        case UInt8(ascii: "h"): factor = 3_600
        case UInt8(ascii: "d"): factor = 86_400
        default: return nil
        }
        let digits = text.dropLast()
        guard digits.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }),
            let number = Int64(digits), (1...Self.secondsMax / factor).contains(number)
        else { return nil }
        seconds = number * factor
    }
}
