import Glibc
import MeshConfig
import Testing

@Suite struct ConfigurationReferenceTests {
    private static let path =
        #filePath.split(separator: "/").dropLast(3).reduce("") { "\($0)/\($1)" }
        + "/docs/CONFIGURATION.md"

    @Test func documentationIsMadeFromTheTables() throws {
        let expected = ConfigurationReference.markdown
        if getenv("CULVERT_WRITE_REFERENCE") != nil {
            let file = try #require(fopen(Self.path, "w"))
            #expect(fputs(expected, file) >= 0)
            #expect(fclose(file) == 0)
        }
        let file = try #require(fopen(Self.path, "r"))
        defer { fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = fread(&bytes, 1, bytes.count, file)
        #expect(String(decoding: bytes[..<count], as: UTF8.self) == expected)
    }
}
