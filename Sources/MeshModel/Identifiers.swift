/// One running instance: a process tree in one cgroup. Never reused within a boot; 0 is nobody.
package struct WorkloadID: Hashable, Sendable, RawRepresentable {
    package var rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    package static let none = WorkloadID(rawValue: 0)
}

/// A name with endpoints; 0 is none.
package struct ServiceID: Hashable, Sendable, RawRepresentable {
    package var rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    package static let none = ServiceID(rawValue: 0)
}

/// A node of the snapshot; 0 is none.
package struct NodeID: Hashable, Sendable, RawRepresentable {
    package var rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    package static let none = NodeID(rawValue: 0)
}

/// A principal of the snapshot; 0 is nobody (unauthenticated, or unknown to the snapshot).
package struct PrincipalID: Hashable, Sendable, RawRepresentable {
    package var rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    package static let none = PrincipalID(rawValue: 0)
}

/// The scope in which an address is unique; 0 is the mesh's default network.
package struct NetworkID: Hashable, Sendable, RawRepresentable {
    package var rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    package static let `default` = NetworkID(rawValue: 0)
}

/// meshd's number of a network namespace on this node; 0 is the node's own.
package struct NetworkNamespaceID: Hashable, Sendable, RawRepresentable {
    package var rawValue: UInt32
    package init(rawValue: UInt32) { self.rawValue = rawValue }
    package static let node = NetworkNamespaceID(rawValue: 0)
}
