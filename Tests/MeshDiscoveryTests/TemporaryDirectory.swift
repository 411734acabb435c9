import Glibc
import LinuxIO

/// A directory of one test, removed with all that is in it.
final class TemporaryDirectory {
    let path: String

    init(_ name: String = #function) throws {
        let plain = name.prefix { $0 != "(" }
        path = "/tmp/culvert-test-\(getpid())-\(plain)-\(UInt32.random(in: 0 ... .max))"
        try TextFile.createDirectory(path)
    }

    deinit { Self.remove(path) }

    /// As an editor does that writes in place.
    func write(_ name: String, _ text: String) {
        guard let file = fopen("\(path)/\(name)", "w") else { return }
        fputs(text, file)
        fclose(file)
    }

    func delete(_ name: String) { unlink("\(path)/\(name)") }

    private static func remove(_ path: String) {
        for entry in (try? TextFile.list(path)) ?? [] {
            if entry.isDirectory { remove("\(path)/\(entry.name)") } else { unlink("\(path)/\(entry.name)") }
        }
        rmdir(path)
    }
}

enum Sample {
    static func node(_ name: String, _ address: String) -> String {
        "kind: Node\nmetadata: {name: \(name)}\nspec: {tunnelAddresses: [\(address)]}\n---\n"
    }

    static func workload(
        _ name: String, node: String = "a", cgroup: String? = nil, address: String = "", ports: String = "",
        network: String = "", account: String? = nil, networkNamespace: String? = nil, labels: String = ""
    ) -> String {
        let scope = networkNamespace.map { ", networkNamespace: \($0)" } ?? ""
        return """
            kind: Workload
            metadata: {name: \(name), labels: {\(labels)}}
            spec:
              node: \(node)
              serviceAccount: \(account ?? name)
              selector: {cgroup: \(cgroup ?? name)\(scope)}
              addresses: [\(address)]
              ports: [\(ports)]
              network: '\(network)'
            ---

            """
    }

    static func service(_ name: String, address: String, selector: String, targetPort: Int = 8080) -> String {
        """
        kind: Service
        metadata: {name: \(name)}
        spec:
          virtualAddresses: [\(address)]
          ports: [{port: 80, targetPort: \(targetPort)}]
          selector: {\(selector)}
        ---

        """
    }
}
