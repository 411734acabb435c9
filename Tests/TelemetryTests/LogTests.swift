import Telemetry
import Testing

@Suite struct LogTests {
    @Test func lineIsKeyValueTextThatNothingBreaks() {
        let line = LogLine(.warn, "peer refused", [("reason", "sni_unknown"), ("subject", "a\"b\n=c")])
        #expect(
            line.text(format: .text, wallMilliseconds: 1_709_210_096_007)
                == "time=2024-02-29T12:34:56.007Z level=warn message=\"peer refused\" reason=sni_unknown "
                + "subject=\"a\\\"b\\n=c\"\n")
    }

    @Test func lineIsOneJSONObject() {
        let line = LogLine(.info, "x", [("key", "\u{1}é")])
        #expect(
            line.text(format: .json, wallMilliseconds: -1)
                == "{\"time\":\"1969-12-31T23:59:59.999Z\",\"level\":\"info\",\"message\":\"x\",\"key\":\"\\u0001é\"}\n"
        )
    }

    @Test func timesAreReadAsTheyAreWritten() {
        for milliseconds: Int64 in [
            0, -1, 1_709_210_096_007, 1_709_164_800_000, 951_782_399_999, 4_102_444_800_000, 1_735_689_599_999,
        ] {
            let text = UTCTime.text(milliseconds: milliseconds)
            #expect(UTCTime.milliseconds(parsing: Array(text.utf8)[...]) == milliseconds, "\(text)")
        }
        for text in ["", "2024-02-29T12:34:56Z", "2024-02-29T12:34:56.00xZ", "2024-02-29 12:34:56.007Z"] {
            #expect(UTCTime.milliseconds(parsing: Array(text.utf8)[...]) == nil, "\(text)")
        }
    }

    @Test func timeOfDayThatIsSetIsNoticed() {
        var clock = ClockWatch(wallMilliseconds: 1_000_000, bootNanoseconds: 5_000_000_000)
        #expect(clock.jump(wallMilliseconds: 1_002_000, bootNanoseconds: 7_000_000_000) == nil)
        // A late look is none, and neither is slewing.
        #expect(clock.jump(wallMilliseconds: 1_302_100, bootNanoseconds: 307_000_000_000) == nil)
        #expect(clock.jump(wallMilliseconds: 4_903_100, bootNanoseconds: 308_000_000_000) == 3_600_000)
        #expect(clock.jump(wallMilliseconds: 4_904_100, bootNanoseconds: 309_000_000_000) == nil)
        #expect(clock.jump(wallMilliseconds: 1_000, bootNanoseconds: 310_000_000_000) == -4_904_100)
    }

    @Test func linesBeyondTheLimitAreCountedAndTold() {
        var settings = LogLimiter.Settings()
        settings.linesPerInterval = 2
        settings.intervalNanoseconds = 100
        var limiter = LogLimiter(settings)
        let verdicts = (0..<5).map { limiter.admit("a", now: UInt64($0)) }
        #expect(verdicts == [.write(suppressed: 0), .write(suppressed: 0), .suppress, .suppress, .suppress])
        #expect(limiter.admit("b", now: 5) == .write(suppressed: 0))
        #expect(limiter.admit("a", now: 101) == .write(suppressed: 3))
        #expect(limiter.suppressedTotal == 3)
    }

    @Test func suppressedLinesAreToldWhenTheirKindFallsSilent() {
        var settings = LogLimiter.Settings()
        settings.linesPerInterval = 1
        settings.intervalNanoseconds = 100
        var limiter = LogLimiter(settings)
        for time in 0..<4 { _ = limiter.admit("a", now: UInt64(time)) }
        #expect(limiter.expire(now: 50).isEmpty)
        let over = limiter.expire(now: 100)
        #expect(over.count == 1 && over.first?.key == "a" && over.first?.suppressed == 3)
        #expect(limiter.expire(now: 300).isEmpty)
    }

    @Test func kindsBeyondTheBoundShareOne() {
        var settings = LogLimiter.Settings()
        settings.linesPerInterval = 1
        settings.keysMax = 2
        var limiter = LogLimiter(settings)
        let verdicts = (0..<5).map { limiter.admit("key\($0)", now: 1) }
        #expect(verdicts.count { $0 == .suppress } == 2)
    }
}
