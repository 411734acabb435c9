package import MeshModel

/// What decides about a destination outside the mesh.
package enum EgressRule: Hashable, Sendable {
    /// No EgressPolicy selects the workload: it may call all.
    case noPolicy
    /// At the port of DNS: the proxy carries the question, whatever the policy.
    case names
    /// The policy's mode alone.
    case mode(EgressPolicyResource.Mode)
    /// This entry of its list, counted from 0, has the destination.
    case entry(Int)
    /// None has it.
    case noMatch

    package static let namesPort: UInt16 = 53

    /// Of a policy with this mode; nil where it denies nothing.
    package static func denial(by mode: EgressPolicyResource.Mode) -> EgressRule? {
        switch mode {
        case .allow: nil
        case .deny: .mode(.deny)
        case .listed: .noMatch
        }
    }

    /// What a policy says of a destination.
    package init(_ destination: EgressDestination, port: UInt16, _ view: EgressView?) {
        if port == Self.namesPort {
            self = .names
        } else if let view {
            switch view.mode {
            case .allow, .deny: self = .mode(view.mode)
            case .listed:
                let match = view.allowed.firstIndex { destination.miss(of: $0, port: port) == nil }
                self = match.map { .entry($0) } ?? .noMatch
            }
        } else {
            self = .noPolicy
        }
    }

    package var allows: Bool {
        switch self {
        case .noPolicy, .names, .entry: true
        case .mode(let mode): mode == .allow
        case .noMatch: false
        }
    }
}

extension EgressRule: CustomStringConvertible {
    package var description: String {
        switch self {
        case .noPolicy: BuiltInRule.noPolicy.rawValue
        case .names: "names"
        case .mode(let mode): "mode-\(mode.text.lowercased())"
        case .entry(let number): "allow[\(number)]"
        case .noMatch: "no-match"
        }
    }
}

/// A destination outside the mesh, as a person writes it.
package enum EgressDestination: Hashable, Sendable {
    case address(IPAddress)
    /// In lower case, without a dot at its end: what it stands for, as the workload is told by DNS.
    case name(String)

    /// Why the entry does not have it; nil where it does.
    package func miss(of entry: EgressPolicyResource.Entry, port: UInt16) -> String? {
        switch (self, entry.destination) {
        case (.address(let address), .addresses(let block)):
            let isOne = block == AddressBlock(block.address)
            if !block.contains(address) { return "\(block) \(isOne ? "is not" : "does not hold") \(address)" }
        case (.name(let name), .name(let pattern)):
            if !entry.lists(name: name) { return "\(pattern) is not \(name)" }
        case (.address, .name(let pattern)): return "\(pattern) is a name"
        case (.name, .addresses(let block)): return "\(block) is no name"
        }
        guard !entry.ports.isEmpty, !entry.ports.contains(port) else { return nil }
        return "\(port) is none of \(entry.ports.map(String.init).joined(separator: ", "))"
    }
}

extension EgressDestination: CustomStringConvertible {
    package var description: String {
        switch self {
        case .address(let address): address.description
        case .name(let name): name
        }
    }
}
