// Interception puts the kernel side to work on this node: it finds the workloads' cgroups, has every socket of the mesh
// made, keeps the BPF maps equal to the snapshot, and starts, adopts and supervises the unprivileged proxy. It decides
// no policy, reads no traffic and answers no admin request; meshd's composition calls it, by `Interceptor`.

/// Something that an operator may want to know, for the log.
package struct InterceptionReport: Equatable, Sendable {
    package enum Level: UInt8, Sendable, Comparable {
        case debug, info, warning, error
        package static func < (left: Level, right: Level) -> Bool { left.rawValue < right.rawValue }
    }

    package var level: Level
    package var text: String

    package init(_ level: Level, _ text: String) {
        self.level = level
        self.text = text
    }
}

package typealias InterceptionReporter = (InterceptionReport) -> Void
