/// Records of one type from slabs that are never returned to the system: a freed record is the next one taken. One
/// loop owns it, so nothing is locked or counted.
struct Pool<Element: ~Copyable>: ~Copyable {
    private var free: UnsafeMutableRawPointer?
    private var slabs: [UnsafeMutableRawPointer] = []
    /// Records that are taken now.
    private(set) var count = 0

    private static var slabCount: Int { 64 }

    init() { precondition(MemoryLayout<Element>.stride >= MemoryLayout<UnsafeMutableRawPointer>.size) }

    deinit { for slab in slabs { slab.deallocate() } }

    /// Uninitialized memory for one record.
    mutating func take() -> UnsafeMutablePointer<Element> {
        if free == nil { addSlab() }
        guard let memory = free else { preconditionFailure("a new slab has free records") }
        free = memory.load(as: UnsafeMutableRawPointer?.self)
        count += 1
        return memory.bindMemory(to: Element.self, capacity: 1)
    }

    /// Takes back a record that has been deinitialized.
    mutating func give(_ record: UnsafeMutablePointer<Element>) {
        precondition(count > 0)
        let memory = UnsafeMutableRawPointer(record)
        memory.storeBytes(of: free, as: UnsafeMutableRawPointer?.self)
        free = memory
        count -= 1
    }

    // MARK: private

    private mutating func addSlab() {
        let stride = MemoryLayout<Element>.stride
        let slab = UnsafeMutableRawPointer.allocate(
            byteCount: stride * Self.slabCount, alignment: MemoryLayout<Element>.alignment)
        slabs.append(slab)
        for index in (0..<Self.slabCount).reversed() {
            let record = slab + index * stride
            record.storeBytes(of: free, as: UnsafeMutableRawPointer?.self)
            free = record
        }
    }
}
