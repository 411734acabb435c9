package import MeshModel

/// What meshd runs with: one tree, read from one file. Defaults, bounds and meaning of every option stand in
/// `ConfigurationOption.all`.
package struct Configuration: Equatable, Sendable {
    package enum FailureMode: String, CaseIterable, Sendable {
        case closed, open
    }

    package enum EgressFence: String, CaseIterable, Sendable {
        case policy, always
    }

    package enum LogLevel: String, CaseIterable, Sendable {
        case error, warn, info, debug
    }

    package enum LogFormat: String, CaseIterable, Sendable {
        case text, json
    }

    package enum ProxyLaunch: String, CaseIterable, Sendable {
        case process, unit
    }

    package struct Admin: Equatable, Sendable {
        package var socket = ""
        package var group = ""
    }

    package struct Names: Equatable, Sendable {
        /// Empty: DNS is left alone.
        package var domain = ""
    }

    package struct Proxy: Equatable, Sendable {
        package var user = ""
        package var launch = ProxyLaunch.process
        /// 0: one for each processor that the process may use.
        package var loops: UInt16 = 0
        package var memoryBudgetBytes: UInt64 = 0
        package var descriptorsMax: UInt32 = 0
        package var tunnelsMax: UInt32 = 0
        package var tunnelsUnderLossMax: UInt32 = 0
        package var streamsPerTunnelMax: UInt32 = 0
        package var handshakeTimeoutMilliseconds: UInt32 = 0
        package var headersTimeoutMilliseconds: UInt32 = 0
        package var connectTimeoutMilliseconds: UInt32 = 0
        package var idleTunnelTimeoutMilliseconds: UInt32 = 0
        package var pingIntervalMilliseconds: UInt32 = 0
        package var pingTimeoutMilliseconds: UInt32 = 0
        package var slowPeerTimeoutMilliseconds: UInt32 = 0
        package var drainTimeoutMilliseconds: UInt32 = 0
    }

    package struct Capture: Equatable, Sendable {
        package var handoversPerWorkloadMax: UInt16 = 0
        package var restartGraceMilliseconds: UInt32 = 0
    }

    package struct Log: Equatable, Sendable {
        package var level = LogLevel.info
        package var format = LogFormat.text
    }

    package var node = ""
    package var trustDomain = ""
    /// Policies in it reach the whole mesh.
    package var rootNamespace = ""
    /// Empty: where cgroup v2 is mounted.
    package var cgroupRoot = ""
    package var bpffs = ""
    package var runtimeDirectory = ""
    package var stateDirectory = ""
    package var resourcesDirectory = ""
    package var certificatesDirectory = ""
    /// Stands in metrics and in what peers are told.
    package var cluster = ""
    package var admin = Admin()
    /// Nil: not served.
    package var metricsAddress: SocketAddress?
    package var readinessAddress: SocketAddress?
    package var tunnelPort: UInt16 = 0
    package var names = Names()
    package var proxy = Proxy()
    package var capture = Capture()
    package var failureMode = FailureMode.closed
    package var egressFence = EgressFence.policy
    package var log = Log()
    /// Of the connection records on disk.
    package var recordsBytesMax: UInt64 = 0

    /// Every option that has a default at its default.
    package init() {
        for option in ConfigurationOption.all {
            guard case .value(let text) = option.standard, let value = option.kind.value(of: text) else { continue }
            option.set(&self, value)
        }
        fillDerived()
    }

    /// Reads the file's bytes. Nil if there are errors.
    package init?(yaml bytes: [UInt8], file: String, diagnostics: inout Diagnostics) {
        var found = Diagnostics()
        self.init()
        admin.socket = ""
        let documents = YAMLParser.parse(bytes, file: file, limits: YAMLLimits(), diagnostics: &found)
        if documents.count > 1 {
            found.error(documents[1].position, "a second document, expected one")
        }
        var reader = ConfigurationReader(configuration: self, diagnostics: found)
        reader.read(documents.first, file: file)
        self = reader.configuration
        fillDerived()
        diagnostics.add(reader.diagnostics)
        if reader.diagnostics.hasErrors { return nil }
    }

    // MARK: private

    private mutating func fillDerived() {
        if admin.socket.isEmpty { admin.socket = runtimeDirectory + "/admin.sock" }
    }
}
