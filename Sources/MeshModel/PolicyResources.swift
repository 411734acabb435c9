// The resources that say who may talk to whom: shaped like Istio's, at the level of connections.

/// What the kinds of policy have in common: where they stand and which workloads they select.
package protocol PolicyResource: Hashable, Sendable {
    var name: String { get }
    var namespace: String { get }
    /// Labels that a workload must all have; none selects every workload of the scope.
    var selector: [String: String] { get }
}

extension PolicyResource {
    package var key: ResourceName { ResourceName(namespace: namespace, name: name) }

    /// How far it reaches, and with that which of several wins where only one can.
    package func scope(rootNamespace: String) -> PolicyScope {
        if namespace == rootNamespace { return selector.isEmpty ? .mesh : .meshBySelector }
        return selector.isEmpty ? .namespace : .workload
    }

    package func selects(_ workload: WorkloadResource, rootNamespace: String) -> Bool {
        (namespace == rootNamespace || namespace == workload.namespace)
            && selector.allSatisfy { workload.labels[$0.key] == $0.value }
    }
}

/// From the widest to the most specific.
package enum PolicyScope: UInt8, Comparable, Sendable {
    case mesh = 0
    case namespace = 1
    /// Of the root namespace, with a selector: workloads of every namespace.
    case meshBySelector = 2
    case workload = 3

    package static func < (left: PolicyScope, right: PolicyScope) -> Bool { left.rawValue < right.rawValue }

    package var text: String {
        switch self {
        case .mesh: "mesh"
        case .namespace: "namespace"
        case .meshBySelector: "mesh, by labels"
        case .workload: "workload"
        }
    }
}

/// The values of one field of a rule: one of `values` must match, where there are any, and none of `notValues`.
package struct PolicyMatch<Value: Hashable & Sendable>: Hashable, Sendable {
    package var values: [Value]
    package var notValues: [Value]

    package init(_ values: [Value] = [], not notValues: [Value] = []) {
        self.values = values
        self.notValues = notValues
    }

    package var isEmpty: Bool { values.isEmpty && notValues.isEmpty }
}

/// A service account of a namespace.
package struct ServiceAccountName: Hashable, Sendable, CustomStringConvertible {
    package var namespace: String
    package var name: String

    package init(namespace: String, name: String) {
        self.namespace = namespace
        self.name = name
    }

    package var description: String { "\(namespace)/\(name)" }
}

/// Allows or denies connections to the workloads that it selects.
package struct AuthorizationPolicyResource: PolicyResource {
    package enum Action: UInt8, Sendable {
        case allow = 0
        case deny = 1

        package var text: String { self == .allow ? "ALLOW" : "DENY" }
    }

    /// All of its fields must match; one without any matches nothing.
    package struct Source: Hashable, Sendable {
        /// Without `spiffe://`.
        package var principals = PolicyMatch<TextPattern>()
        package var namespaces = PolicyMatch<TextPattern>()
        package var serviceAccounts = PolicyMatch<ServiceAccountName>()
        package var addresses = PolicyMatch<AddressBlock>()

        package init() {}
    }

    /// As `Source`.
    package struct Operation: Hashable, Sendable {
        package var ports = PolicyMatch<UInt16>()

        package init(ports: PolicyMatch<UInt16> = PolicyMatch()) { self.ports = ports }
    }

    package enum Condition: Hashable, Sendable {
        case sourceAddress(PolicyMatch<AddressBlock>)
        case sourceNamespace(PolicyMatch<TextPattern>)
        case sourcePrincipal(PolicyMatch<TextPattern>)
        case sourceServiceAccount(PolicyMatch<ServiceAccountName>)
        case destinationAddress(PolicyMatch<AddressBlock>)
        case destinationPort(PolicyMatch<UInt16>)
    }

    /// Matches where one of `from` does, one of `to` does, and all of `when` do; a list without entries always does.
    package struct Rule: Hashable, Sendable {
        package var from: [Source]
        package var to: [Operation]
        package var when: [Condition]

        package init(from: [Source] = [], to: [Operation] = [], when: [Condition] = []) {
            self.from = from
            self.to = to
            self.when = when
        }
    }

    package var name: String
    package var namespace: String
    package var selector: [String: String]
    package var action: Action
    /// Judged and reported, never enforced.
    package var isDryRun: Bool
    /// One is enough; without any it matches nothing.
    package var rules: [Rule]

    package init(
        name: String, namespace: String, selector: [String: String] = [:], action: Action = .allow,
        isDryRun: Bool = false, rules: [Rule] = []
    ) {
        self.name = name
        self.namespace = namespace
        self.selector = selector
        self.action = action
        self.isDryRun = isDryRun
        self.rules = rules
    }
}

/// Whether a workload takes connections from outside the mesh.
package enum InboundMode: UInt8, Sendable {
    /// Only through the mesh.
    case strict = 1
    /// Plaintext too, as nobody.
    case permissive = 2

    package var text: String { self == .strict ? "STRICT" : "PERMISSIVE" }
}

/// What a PeerAuthentication says about a workload or a port.
package enum InboundSetting: UInt8, Sendable {
    /// What the wider scope says; of a port: what its workload has.
    case unset = 0
    case strict = 1
    case permissive = 2

    package var mode: InboundMode? { InboundMode(rawValue: rawValue) }
}

/// Says which plaintext reaches the workloads that it selects. Of several the most specific wins, port by port.
package struct PeerAuthenticationResource: PolicyResource {
    /// Plaintext that passes although the port is strict, from that source to that port, as nobody.
    package struct Exemption: Hashable, Sendable {
        package var source: AddressBlock
        package var port: UInt16

        package init(source: AddressBlock, port: UInt16) {
            self.source = source
            self.port = port
        }
    }

    package var name: String
    package var namespace: String
    package var selector: [String: String]
    package var mode: InboundSetting
    package var portModes: [UInt16: InboundSetting]
    /// Those of every scope hold together.
    package var exemptions: [Exemption]

    package init(
        name: String, namespace: String, selector: [String: String] = [:], mode: InboundSetting = .unset,
        portModes: [UInt16: InboundSetting] = [:], exemptions: [Exemption] = []
    ) {
        self.name = name
        self.namespace = namespace
        self.selector = selector
        self.mode = mode
        self.portModes = portModes
        self.exemptions = exemptions
    }
}

/// Says which destinations outside the mesh the selected workloads may call. Of several the most specific holds.
package struct EgressPolicyResource: PolicyResource {
    package enum Mode: UInt8, Sendable {
        case allow = 1
        case deny = 2
        /// Only what is listed.
        case listed = 3

        package var text: String {
            switch self {
            case .allow: "ALLOW"
            case .deny: "DENY"
            case .listed: "LISTED"
            }
        }
    }

    /// A destination that is allowed: addresses, or a name.
    package struct Entry: Hashable, Sendable {
        package enum Destination: Hashable, Sendable {
            case addresses(AddressBlock)
            /// Lower case; `*.` in front stands for any number of labels, but not for none.
            case name(String)
        }

        package var destination: Destination
        /// None: any.
        package var ports: [UInt16]

        package init(_ destination: Destination, ports: [UInt16] = []) {
            self.destination = destination
            self.ports = ports
        }

        /// Whether it lists this name, which is in lower case and has no dot at its end.
        package func lists(name: String) -> Bool {
            guard case .name(let pattern) = destination else { return false }
            guard pattern.hasPrefix("*.") else { return name == pattern }
            return name.utf8.count >= pattern.utf8.count && name.hasSuffix(pattern.dropFirst())
        }
    }

    package var name: String
    package var namespace: String
    package var selector: [String: String]
    package var mode: Mode
    package var allowed: [Entry]
    /// Raw sockets, and those of protocols that no hook could judge, are the workload's own business.
    package var allowsRawSockets: Bool

    package init(
        name: String, namespace: String, selector: [String: String] = [:], mode: Mode, allowed: [Entry] = [],
        allowsRawSockets: Bool = false
    ) {
        self.name = name
        self.namespace = namespace
        self.selector = selector
        self.mode = mode
        self.allowed = allowed
        self.allowsRawSockets = allowsRawSockets
    }
}

package enum PolicyResourceDefaults {
    /// The default of `rootNamespace`.
    package static let rootNamespace = "culvert-system"
}
