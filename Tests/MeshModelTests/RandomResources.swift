import MeshModel

/// Small worlds with many coincidences: shared addresses, several networks, labels that match and that do not.
struct RandomResources {
    var resources: ResourceSet
    var instances: [LocalInstance]

    static let localNode = "n0"
    static let trustDomain = "mesh.test"
    static let namespaces = ["shop", "ops"]
    static let networks = ["", "", "blue"]

    static func address(_ number: Int) -> IPAddress {
        number % 3 == 2
            ? IPAddress(high: 0x2001_0db8_0000_0000, low: UInt64(number))
            : IPAddress(ipv4: 0x0a00_0000 + UInt32(number))
    }

    init(using random: inout SplitMix) {
        let nodes = (0..<3).map {
            NodeResource(name: "n\($0)", tunnelAddresses: [Self.address(900 + $0 * 3), Self.address(902 + $0 * 3)])
        }
        var workloads: [WorkloadResource] = []
        var instances: [LocalInstance] = []
        for number in 0..<Int.random(in: 0...12, using: &random) {
            var labels: [String: String] = [:]
            for label in ["app", "tier"] where Bool.random(using: &random) {
                labels[label] = "v\(Int.random(in: 0...1, using: &random))"
            }
            let address = Int.random(in: 0...8, using: &random)
            let workload = WorkloadResource(
                name: "w\(number)", namespace: Self.namespaces.randomElement(using: &random) ?? "",
                serviceAccount: "sa\(Int.random(in: 0...2, using: &random))",
                node: "n\(Int.random(in: 0...2, using: &random))", selector: WorkloadSelector(.cgroup(pattern: "w")),
                addresses: Int.random(in: 0...5, using: &random) == 0 ? [] : [Self.address(address)],
                ports: Bool.random(using: &random) ? [] : [80, UInt16(Int.random(in: 81...83, using: &random))],
                network: Self.networks.randomElement(using: &random) ?? "", labels: labels)
            workloads.append(workload)
            for _ in 0..<Int.random(in: 0...2, using: &random) {
                instances.append(
                    LocalInstance(
                        resource: workload.key, workload: WorkloadID(rawValue: UInt32(instances.count + 1)),
                        networkNamespace: NetworkNamespaceID(rawValue: UInt32(number)), cgroupID: UInt64(number) + 7))
            }
        }
        let services = (0..<Int.random(in: 0...5, using: &random)).map { number in
            ServiceResource(
                name: "s\(number)", namespace: Self.namespaces.randomElement(using: &random) ?? "",
                virtualAddresses: [Self.address(100 + Int.random(in: 0...6, using: &random))],
                ports: [.init(80, targetPort: 80), .init(443, targetPort: 82)],
                selector: ["app": "v\(Int.random(in: 0...1, using: &random))"])
        }
        resources = ResourceSet(nodes: nodes, workloads: workloads, services: services)
        self.instances = instances
    }
}
