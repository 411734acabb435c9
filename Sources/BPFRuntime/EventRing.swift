package import CMeshABI
import CLibBPF
import Glibc
package import LinuxIO

/// The kernel side's events, in the order that they were written. Lost ones are counted by the programs
/// (`MESH_REASON_EVENT_LOST`).
package final class EventRing {
    private let ring: OpaquePointer
    /// Readable when there are events: for a reactor.
    package let descriptor: FileDescriptor
    fileprivate var body: ((mesh_event) -> Void)?

    init(mapDescriptor: Int32) throws(BPFError) {
        let box = UnsafeMutablePointer<Unmanaged<EventRing>?>.allocate(capacity: 1)
        box.initialize(to: nil)
        guard let ring = ring_buffer__new(mapDescriptor, deliverEvent, box, nil) else {
            box.deallocate()
            throw BPFError("open event ring", code: errno)
        }
        let copy = fcntl(ring_buffer__epoll_fd(ring), F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else {
            ring_buffer__free(ring)
            box.deallocate()
            throw BPFError("open event ring", code: errno)
        }
        self.ring = ring
        self.box = box
        descriptor = FileDescriptor(owning: copy)
        box.pointee = Unmanaged.passUnretained(self)
    }

    private let box: UnsafeMutablePointer<Unmanaged<EventRing>?>

    deinit {
        ring_buffer__free(ring)
        box.deallocate()
    }

    /// Hands over everything that is there now.
    package func read(_ body: (mesh_event) -> Void) {
        withoutActuallyEscaping(body) { body in
            self.body = body
            _ = ring_buffer__consume(ring)
            self.body = nil
        }
    }
}

private func deliverEvent(
    _ context: UnsafeMutableRawPointer?, _ data: UnsafeMutableRawPointer?, _ size: Int
) -> Int32 {
    guard let context, let data, size >= MemoryLayout<mesh_event>.size else { return 0 }
    let ring = context.assumingMemoryBound(to: Unmanaged<EventRing>?.self).pointee
    ring?.takeUnretainedValue().body?(data.loadUnaligned(as: mesh_event.self))
    return 0
}
