// Services by the names that DNS knows them by.
extension Snapshot {
    /// The service whose `<name>.<namespace>` this is, letters of either case being the same. Both parts may hold dots, so
    /// the text is compared as a whole; of several that read the same, the first by name.
    package func service(named text: UnsafeRawBufferPointer) -> ServiceID? {
        guard let dot = text.firstIndex(of: UInt8(ascii: ".")) else { return nil }
        return service(text[..<dot], text[(dot + 1)...])
    }

    /// The service `name` of the namespace that the workload is in; nil for a workload that is not known.
    package func service(
        named name: UnsafeRawBufferPointer, inNamespaceOf workload: WorkloadID
    ) -> ServiceID? {
        let index = sections.find(sections.workloadsByID, hash: SnapshotHash.mix(UInt64(workload.rawValue))) {
            sections.workloads[$0].id == workload.rawValue
        }
        guard let index else { return nil }
        return service(name[...], sections.bytes(of: sections.workloads[index].namespace)[...])
    }

    // MARK: private

    /// Where between the two parts the dot is does not matter: only what both amount to.
    private func service(_ first: Slice<UnsafeRawBufferPointer>, _ second: Slice<UnsafeRawBufferPointer>) -> ServiceID?
    {
        let hash = SnapshotHash.name(first, second)
        let index = sections.find(sections.servicesByName, hash: hash) { index in
            let record = sections.services[index]
            let name = sections.bytes(of: record.name)
            let namespace = sections.bytes(of: record.namespace)
            guard name.count + namespace.count == first.count + second.count else { return false }
            for offset in 0...(name.count + namespace.count) {
                guard Self.byte(at: offset, first, second) == Self.byte(at: offset, name[...], namespace[...]) else {
                    return false
                }
            }
            return true
        }
        return index.map { ServiceID(rawValue: sections.services[$0].id) }
    }

    /// Of `<first>.<second>`, in lower case.
    private static func byte(
        at offset: Int, _ first: Slice<UnsafeRawBufferPointer>, _ second: Slice<UnsafeRawBufferPointer>
    ) -> UInt8 {
        if offset < first.count { return SnapshotHash.lowered(first[first.startIndex + offset]) }
        if offset == first.count { return UInt8(ascii: ".") }
        return SnapshotHash.lowered(second[second.startIndex + offset - first.count - 1])
    }
}
