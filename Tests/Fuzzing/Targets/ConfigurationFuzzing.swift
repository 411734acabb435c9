import MeshConfig
import MeshModel

/// Input: meshd.yaml. It is taken whole or not at all, and whatever is said about it has a place in the file.
func fuzzConfiguration(_ input: UnsafeRawBufferPointer) {
    var diagnostics = Diagnostics()
    let configuration = Configuration(yaml: Array(input), file: "fuzzed", diagnostics: &diagnostics)
    precondition((configuration == nil) == diagnostics.hasErrors, "taken with errors, or refused without one")
    check(diagnostics, of: input)
    if let configuration { precondition(!configuration.admin.socket.isEmpty, "nothing derived") }
}

/// Input: a file of resources. What is read of it makes a snapshot, or is refused by its own sentence.
func fuzzResources(_ input: UnsafeRawBufferPointer) {
    var diagnostics = Diagnostics()
    let declared = DeclaredResources(yaml: Array(input), file: "fuzzed", diagnostics: &diagnostics)
    check(diagnostics, of: input)
    let resources = declared.resources
    for workload in declared.workloads {
        precondition(!workload.resource.name.isEmpty, "a workload without a name")
        for position in workload.positions.values { check(position, of: input) }
    }
    var builder = SnapshotBuilder(localNode: "a", trustDomain: "fuzzed")
    guard let snapshot = try? builder.build(resources) else { return }
    precondition(snapshot.allServices.count <= resources.services.count, "services out of nothing")
}

private func check(_ diagnostics: Diagnostics, of input: UnsafeRawBufferPointer) {
    precondition(diagnostics.list.count <= Diagnostics.listMax)
    for diagnostic in diagnostics.list {
        precondition(!diagnostic.message.isEmpty, "a problem without words")
        check(diagnostic.position, of: input)
    }
}

private func check(_ position: SourcePosition, of input: UnsafeRawBufferPointer) {
    // YAML ends lines at CR, LF, NEL, LS and PS: each is at least one byte.
    precondition(position.line >= 1 && position.line <= input.count + 2, "line \(position.line)")
    precondition(position.column >= 1 && position.column <= input.count + 2, "column \(position.column)")
}
