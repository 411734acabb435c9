import Glibc
import MeshConfig
import Testing

/// An option that nobody reads promises what does not happen.
@Suite struct OptionUseTests {
    private static let root = #filePath.split(separator: "/").dropLast(3).reduce("") { "\($0)/\($1)" }

    /// All of meshd's source text: only it runs with a configuration.
    private static func sources() throws -> String {
        let path = root + "/Sources/meshd"
        let directory = try #require(opendir(path))
        defer { closedir(directory) }
        var text = ""
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { name in
                String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
            }
            guard name.hasSuffix(".swift") else { continue }
            let file = try #require(fopen("\(path)/\(name)", "r"))
            defer { fclose(file) }
            let count = fread(&bytes, 1, bytes.count, file)
            text += String(decoding: bytes[..<count], as: UTF8.self)
        }
        return text
    }

    /// `node`, `proxy.loops` …: the properties that the options fill.
    private static func properties(_ value: Any, prefix: String = "") -> [String] {
        Mirror(reflecting: value).children.flatMap { child in
            let name = prefix + (child.label ?? "")
            let isSection = Mirror(reflecting: child.value).displayStyle == .struct && !(child.value is String)
            let isOwn = String(reflecting: type(of: child.value)).hasPrefix("MeshConfig.Configuration.")
            return isSection && isOwn ? properties(child.value, prefix: name + ".") : [name]
        }
    }

    @Test func everyOptionIsReadBySomebody() throws {
        let text = try Self.sources()
        let names = Self.properties(Configuration())
        #expect(names.contains("proxy.loops") && names.contains("admin.group") && names.count >= 30)
        for name in names {
            let last = name.split(separator: ".").last.map(String.init) ?? name
            let isRead =
                text.contains("configuration.\(name)") || text.contains("proxy.\(last)")
                || text.contains("configuration.\(last)")
            #expect(isRead, "\(name) is an option without effect")
        }
    }
}
