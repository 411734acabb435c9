import MeshModel

/// One line of a table of expectations: what `meshctl policy test` holds against the policies.
package struct PolicyExpectation: Equatable, Sendable {
    /// A workload, a principal, an address or `nobody`.
    package var from: String
    /// A service or a workload; an address or a name outside the mesh.
    package var to: String
    package var port: UInt16
    package var isAllowed: Bool
    /// `namespace/name` of the policy that is to decide; nil for any.
    package var policy: String?
    package var position: SourcePosition
}

/// A file of expectations: `kind: PolicyTest` and a list.
package enum PolicyExpectations {
    package static let kind = "PolicyTest"

    package static func read(
        yaml bytes: [UInt8], file: String, diagnostics: inout Diagnostics
    ) -> [PolicyExpectation] {
        let documents = YAMLParser.parse(bytes, file: file, limits: YAMLLimits(), diagnostics: &diagnostics)
        var reader = FieldReader(kind: kind, diagnostics: diagnostics)
        var expectations: [PolicyExpectation] = []
        for document in documents {
            let root = reader.fields(document, path: "", tablePath: "")
            _ = reader.text("kind", in: root, expected: "`\(kind)`", isValid: { $0 == kind })
            let nodes = reader.list("expectations", in: root, isRequired: true, of: "expectations")
            for (index, node) in nodes.enumerated() {
                if let one = expectation(&reader, node, "expectations[\(index)]") { expectations.append(one) }
            }
        }
        if documents.isEmpty && !reader.diagnostics.hasErrors {
            reader.diagnostics.error(SourcePosition(file: file), "the file is empty, expected a \(kind)")
        }
        diagnostics = reader.diagnostics
        return expectations
    }

    // MARK: private

    private static func expectation(
        _ reader: inout FieldReader, _ node: YAMLNode, _ path: String
    ) -> PolicyExpectation? {
        let fields = reader.fields(node, path: path, tablePath: "expectations[]")
        let isText = { (text: String) in !text.isEmpty }
        let from = reader.text(
            "from", in: fields, expected: "a workload, a principal, an address or `nobody`", isValid: isText)
        let to = reader.text(
            "to", in: fields, expected: "a service, a workload, or an address or a name outside the mesh",
            isValid: isText)
        let port = reader.required("port", in: fields, expected: "a port from 1 to 65535").flatMap {
            reader.policyPort($0, path: "\(path).port")
        }
        let isAllowed = reader.choice("expect", in: fields, [("allowed", true), ("denied", false)])
        var policy: String?
        if fields.values["by"] != nil {
            policy = reader.text("by", in: fields, expected: "`<namespace>/<name>` of a policy", isValid: isText)
        }
        guard let from, let to, let port, let isAllowed else { return nil }
        return PolicyExpectation(
            from: from, to: to, port: port, isAllowed: isAllowed, policy: policy, position: node.position)
    }
}
