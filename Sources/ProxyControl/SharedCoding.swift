import CMeshABI
import MeshModel

// The forms of MeshModel's values, and of those that both directions carry.

extension WireWriter {
    mutating func address(_ value: SocketAddress) {
        number(value.address.high)
        number(value.address.low)
        number(value.port)
    }

    mutating func reason(_ value: Reason) { number(UInt16(truncatingIfNeeded: value.rawValue)) }

    mutating func pool(_ value: DialPool) {
        number(value.purpose.rawValue)
        number(value.networkNamespace.rawValue)
        flag(value.isIPv6)
    }

    mutating func listener(_ value: ListenerDescription) {
        number(value.id)
        number(value.kind.rawValue)
        number(value.networkNamespace.rawValue)
        address(value.address)
        number(value.loop)
    }
}

extension WireReader {
    mutating func address(_ field: ControlError.StaticText) throws(ControlError) -> SocketAddress {
        let high = try number(field, as: UInt64.self)
        let low = try number(field, as: UInt64.self)
        return SocketAddress(IPAddress(high: high, low: low), try number(field))
    }

    mutating func reason(_ field: ControlError.StaticText = "reason") throws(ControlError) -> Reason {
        guard let reason = Reason(listed: try number(field, as: UInt16.self)) else { throw .invalid(field: field) }
        return reason
    }

    mutating func workload(_ field: ControlError.StaticText) throws(ControlError) -> WorkloadID {
        WorkloadID(rawValue: try number(field))
    }

    mutating func node(_ field: ControlError.StaticText) throws(ControlError) -> NodeID {
        NodeID(rawValue: try number(field))
    }

    mutating func networkNamespace() throws(ControlError) -> NetworkNamespaceID {
        NetworkNamespaceID(rawValue: try number("network namespace"))
    }

    mutating func pool() throws(ControlError) -> DialPool {
        guard let purpose = DialPool.Purpose(rawValue: try number("purpose")) else {
            throw .invalid(field: "purpose")
        }
        let networkNamespace = try networkNamespace()
        return DialPool(purpose: purpose, networkNamespace: networkNamespace, isIPv6: try flag("family"))
    }

    mutating func listener() throws(ControlError) -> ListenerDescription {
        let id = try number("listener", as: UInt32.self)
        guard let kind = ListenerDescription.Kind(rawValue: try number("listener kind")) else {
            throw .invalid(field: "listener kind")
        }
        let networkNamespace = try networkNamespace()
        let address = try address("listener address")
        return ListenerDescription(
            id: id, kind: kind, networkNamespace: networkNamespace, address: address, loop: try number("loop"))
    }
}

extension Reason {
    /// The reason with this number, or nil when the list has none.
    package init?(listed number: UInt16) { self.init(number: number) }
}
