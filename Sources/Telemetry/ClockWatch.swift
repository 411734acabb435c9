/// Notices when the time of day is set, by what it says against the time since boot. Slewing (at most 0.05 %) is none.
package struct ClockWatch: Sendable {
    /// A smaller step matters to nobody.
    package static let stepMillisecondsMin: Int64 = 1_000

    private var offset: Int64

    package init(wallMilliseconds: Int64, bootNanoseconds: UInt64) {
        offset = Self.offset(wallMilliseconds, bootNanoseconds)
    }

    /// How far it was set since the last look, in milliseconds; nil: it was not.
    package mutating func jump(wallMilliseconds: Int64, bootNanoseconds: UInt64) -> Int64? {
        let before = offset
        offset = Self.offset(wallMilliseconds, bootNanoseconds)
        let step = offset - before
        return abs(step) >= Self.stepMillisecondsMin ? step : nil
    }

    // MARK: private

    private static func offset(_ wallMilliseconds: Int64, _ bootNanoseconds: UInt64) -> Int64 {
        wallMilliseconds - Int64(clamping: bootNanoseconds / 1_000_000)
    }
}
