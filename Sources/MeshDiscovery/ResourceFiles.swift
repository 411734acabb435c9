// MeshDiscovery finds out what the mesh consists of: it reads and watches the directory of resource files, checks what
// the resources say about each other, keeps the last good set in force while the files are broken, and keeps the last
// good snapshot on disk. It builds no snapshot: meshd does, from these resources and from the instances that run.

import LinuxIO
package import MeshConfig
package import MeshModel

/// One reading of a directory of resource files.
package struct ResourceFiles: Sendable {
    /// Nil where there are errors.
    package var resources: ResourceSet?
    /// Errors and warnings by place.
    package var diagnostics: Diagnostics
    package var fileCount: Int

    /// Reads and checks `directory`; `meshctl config validate` and meshd see the same.
    package static func check(
        directory: String, localNode: String, names: MeshNames = MeshNames()
    ) -> ResourceFiles {
        var diagnostics = Diagnostics()
        let contents = ResourceFiles.contents(of: directory, diagnostics: &diagnostics)
        return ResourceFiles(
            contents, directory: directory, localNode: localNode, names: names, diagnostics: diagnostics)
    }

    /// Whether a directory entry is a resource file: `*.yaml` and `*.yml`, but no dotfiles and editors' leftovers.
    package static func isResourceFile(_ name: String) -> Bool {
        (name.hasSuffix(".yaml") || name.hasSuffix(".yml")) && !name.hasPrefix(".") && !name.hasPrefix("#")
    }

    // MARK: private

    struct Content: Equatable {
        var path: String
        var bytes: [UInt8]
    }

    /// Of one directory; more is a mistake.
    private static let filesMax = 10_000
    private static let fileBytesMax = 16 << 20
    private static let directoryBytesMax = 256 << 20

    init(
        _ contents: [Content], directory: String, localNode: String, names: MeshNames, diagnostics: Diagnostics
    ) {
        var diagnostics = diagnostics
        var declared = DeclaredResources()
        for content in contents {
            declared.add(DeclaredResources(yaml: content.bytes, file: content.path, diagnostics: &diagnostics))
        }
        ResourceChecks.run(
            declared, localNode: localNode, names: names, directory: SourcePosition(file: directory),
            diagnostics: &diagnostics)
        diagnostics.sort()
        resources = diagnostics.hasErrors ? nil : declared.resources
        self.diagnostics = diagnostics
        fileCount = contents.count
    }

    /// The files in order of name; what can't be read is a problem of its own.
    static func contents(of directory: String, diagnostics: inout Diagnostics) -> [Content] {
        let names: [String]
        do throws(IOError) {
            names = try TextFile.list(directory).filter { !$0.isDirectory && isResourceFile($0.name) }
                .map(\.name).sorted()
        } catch {
            diagnostics.error(SourcePosition(file: directory), "the directory of resources can't be read: \(error)")
            return []
        }
        guard names.count <= filesMax else {
            diagnostics.error(
                SourcePosition(file: directory), "\(names.count) resource files, expected at most \(filesMax)")
            return []
        }
        var contents: [Content] = []
        var total = 0
        for name in names {
            let path = "\(directory)/\(name)"
            do throws(IOError) {
                let bytes = try TextFile.readBytes(path, limitBytes: fileBytesMax)
                total += bytes.count
                contents.append(Content(path: path, bytes: bytes))
            } catch {
                diagnostics.error(SourcePosition(file: path), "the file can't be read: \(error)")
            }
            guard total <= directoryBytesMax else {
                diagnostics.error(
                    SourcePosition(file: directory), "more than \(directoryBytesMax >> 20) MiB of resource files")
                return []
            }
        }
        return contents
    }
}
