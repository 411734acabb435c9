import Glibc

/// The only reads of the environment.
enum Environment {
    /// Where the service manager listens for readiness and watchdog messages.
    static var notifySocket: String? { getenv("NOTIFY_SOCKET").map { String(cString: $0) } }
}
