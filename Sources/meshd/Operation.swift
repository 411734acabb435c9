final class Operation {
    init(_ daemon: Daemon) throws {}
    func stop() {}
}
