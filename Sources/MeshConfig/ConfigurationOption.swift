import MeshModel

/// One option of meshd's configuration: where it stands, what it takes, its default and its bounds. The reader and
/// `docs/CONFIGURATION.md` are both made from this table.
struct ConfigurationOption: Sendable {
    enum Standard: Sendable {
        case required
        case value(String)
        /// Not a fixed text; what it is then.
        case derived(String)
    }

    let path: String
    let kind: OptionKind
    let standard: Standard
    let meaning: String
    let set: @Sendable (inout Configuration, OptionValue) -> Void

    init(
        _ path: String, _ kind: OptionKind, _ standard: Standard, _ meaning: String,
        set: @escaping @Sendable (inout Configuration, OptionValue) -> Void
    ) {
        self.path = path
        self.kind = kind
        self.standard = standard
        self.meaning = meaning
        self.set = set
    }

    static let all: [ConfigurationOption] = general + services + proxy + rest

    private static let general: [ConfigurationOption] = [
        .init("node", .name, .required, "Name of this node: that of its Node resource.") { $0.node = $1.text },
        .init("trustDomain", .trustDomain, .required, "Trust domain of every principal of the mesh.") {
            $0.trustDomain = $1.text
        },
        .init(
            "rootNamespace", .name, .value(PolicyResourceDefaults.rootNamespace),
            "Policies in this namespace reach the whole mesh. All nodes need the same."
        ) { $0.rootNamespace = $1.text },
        .init(
            "cgroupRoot", .path, .derived("where cgroup v2 is mounted"),
            "Workloads live below this cgroup; programs are attached here, and relative cgroup patterns begin here."
        ) { $0.cgroupRoot = $1.text },
        .init("bpffs", .path, .value("/sys/fs/bpf"), "The mounted BPF file system, where programs and maps are pinned.")
        {
            $0.bpffs = $1.text
        },
        .init(
            "runtimeDirectory", .path, .value("/run/culvert"),
            "Sockets and state that a reboot may lose. One for each meshd."
        ) { $0.runtimeDirectory = $1.text },
        .init(
            "stateDirectory", .path, .value("/var/lib/culvert"),
            "Connection records and the last good state. One for each meshd."
        ) { $0.stateDirectory = $1.text },
        .init(
            "resources", .path, .value("/etc/culvert/resources"),
            "Watched directory of `*.yaml` and `*.yml` files with resources."
        ) { $0.resourcesDirectory = $1.text },
        .init(
            "certificates", .path, .value("/etc/culvert/certificates"),
            "Watched directory: `ca.pem`, and `chain.pem` and `key.pem` in `<namespace>/<service account>/`."
        ) { $0.certificatesDirectory = $1.text },
        .init(
            "cluster", .name, .value("culvert"),
            "Name of the cluster in metrics (`source_cluster`, `destination_cluster`) and in what peer nodes are told."
        ) { $0.cluster = $1.text },
    ]

    private static let services: [ConfigurationOption] = [
        .init(
            "admin.socket", .socketPath, .derived("`<runtimeDirectory>/admin.sock`"),
            "Unix socket that meshctl talks to."
        ) { $0.admin.socket = $1.text },
        .init("admin.group", .name, .value("mesh"), "Group whose members may use the admin socket.") {
            $0.admin.group = $1.text
        },
        .init(
            "metrics.address", .address, .value("127.0.0.1:15020"),
            "Where `/metrics` is served: an address of this node and a port, or `none`."
        ) { $0.metricsAddress = $1.address },
        .init(
            "readiness.address", .address, .value("127.0.0.1:15021"),
            "Where `/healthz/ready` is served: an address of this node and a port, or `none`."
        ) { $0.readinessAddress = $1.address },
        .init(
            "tunnel.port", .integer(1...65_535), .value("15008"),
            "Port of the tunnels, here and on every peer node. All nodes need the same."
        ) { $0.tunnelPort = UInt16(truncatingIfNeeded: $1.number) },
        .init(
            "names.domain", .domain, .value("mesh.internal"),
            "Services are `<service>.<namespace>.svc.<names.domain>` for workloads that ask DNS; `none` leaves DNS alone."
        ) { $0.names.domain = $1.text },
    ]

    private static let proxy: [ConfigurationOption] = [
        .init("proxy.user", .name, .value("culvert"), "Unprivileged user that the proxy runs as.") {
            $0.proxy.user = $1.text
        },
        .init(
            "proxy.launch", .choice(Configuration.ProxyLaunch.allCases.map(\.rawValue)), .value("process"),
            "`process`: meshd starts the proxy in a cgroup of its own; `unit`: systemd does, as `culvert-proxy@main`."
        ) { $0.proxy.launch = Configuration.ProxyLaunch(rawValue: $1.text) ?? .process },
        .init(
            "proxy.loops", .integer(0...64), .value("0"),
            "Event loops of the proxy; 0 is one for each processor it may use."
        ) { $0.proxy.loops = UInt16(truncatingIfNeeded: $1.number) },
        .init(
            "proxy.memoryBudget", .size(4 << 20...64 << 30), .value("256MiB"),
            "Bytes that the proxy may hold for streams and tunnels; past it, streams that hold most are reset."
        ) { $0.proxy.memoryBudgetBytes = $1.number },
        .init(
            "proxy.descriptorsMax", .integer(128...1_048_576), .value("65536"),
            "Descriptors that the proxy may hold; 90 % of it is overload. A captured connection takes one, a tunnel one."
        ) { $0.proxy.descriptorsMax = $1.number32 },
        .init("proxy.tunnelsMax", .integer(1...65_536), .value("4096"), "Tunnels at once; idle ones go first, by age.")
        {
            $0.proxy.tunnelsMax = $1.number32
        },
        .init(
            "proxy.tunnelsUnderLossMax", .integer(1...64), .value("8"),
            "Tunnels for two principals and a node while packet loss bounds what one of them carries; 1: none are added."
        ) { $0.proxy.tunnelsUnderLossMax = $1.number32 },
        .init(
            "proxy.streamsPerTunnelMax", .integer(1...1_000_000), .value("10000"),
            "Streams at once that a peer node may open in one tunnel."
        ) { $0.proxy.streamsPerTunnelMax = $1.number32 },
        .init(
            "proxy.handshakeTimeout", .duration(100...300_000), .value("10s"),
            "For TLS and the HTTP/2 preface of a new tunnel."
        ) { $0.proxy.handshakeTimeoutMilliseconds = $1.number32 },
        .init(
            "proxy.headersTimeout", .duration(100...300_000), .value("10s"), "For the answer to a stream's request."
        ) { $0.proxy.headersTimeoutMilliseconds = $1.number32 },
        .init(
            "proxy.connectTimeout", .duration(100...300_000), .value("10s"),
            "For a connection to an application or to a peer node, the wait for a dial socket included."
        ) { $0.proxy.connectTimeoutMilliseconds = $1.number32 },
        .init(
            "proxy.idleTunnelTimeout", .duration(1_000...86_400_000), .value("5m"),
            "A tunnel without streams is closed after it."
        ) { $0.proxy.idleTunnelTimeoutMilliseconds = $1.number32 },
        .init(
            "proxy.pingInterval", .duration(100...3_600_000), .value("10s"), "Between PINGs on a tunnel with streams."
        ) { $0.proxy.pingIntervalMilliseconds = $1.number32 },
        .init(
            "proxy.pingTimeout", .duration(100...3_600_000), .value("20s"),
            "A tunnel whose PING stays without an answer for so long is lost."
        ) { $0.proxy.pingTimeoutMilliseconds = $1.number32 },
        .init(
            "proxy.slowPeerTimeout", .duration(100...86_400_000), .value("1m"),
            "How long a peer that does not read may hold memory while the budget is over 90 %."
        ) { $0.proxy.slowPeerTimeoutMilliseconds = $1.number32 },
        .init(
            "proxy.drainTimeout", .duration(0...604_800_000), .value("24h"),
            "How long a proxy that another one replaced (an upgrade) finishes what is open; `0s` is for ever."
        ) { $0.proxy.drainTimeoutMilliseconds = $1.number32 },
    ]

    private static let rest: [ConfigurationOption] = [
        .init(
            "capture.handoversPerWorkloadMax", .integer(1...65_535), .value("1024"),
            "Captured connections of one workload that may wait for the proxy; more are refused."
        ) { $0.capture.handoversPerWorkloadMax = UInt16(truncatingIfNeeded: $1.number) },
        .init(
            "capture.restartGrace", .duration(600...60_000), .value("3s"),
            "How long after its last beat a proxy still gets connections."
        ) { $0.capture.restartGraceMilliseconds = $1.number32 },
        .init(
            "egress.fence", .choice(Configuration.EgressFence.allCases.map(\.rawValue)), .value("policy"),
            "Whose packets are dropped when no hook judged their socket: `policy`, workloads whose EgressPolicy "
                + "restricts them; `always`, all."
        ) { $0.egressFence = Configuration.EgressFence(rawValue: $1.text) ?? .policy },
        .init(
            "failureMode", .choice(Configuration.FailureMode.allCases.map(\.rawValue)), .value("closed"),
            "`closed` refuses what can't go through the mesh; `open` passes it in plain text while the mesh is away."
        ) { $0.failureMode = Configuration.FailureMode(rawValue: $1.text) ?? .closed },
        .init(
            "log.level", .choice(Configuration.LogLevel.allCases.map(\.rawValue)), .value("info"),
            "Least severity that is written."
        ) { $0.log.level = Configuration.LogLevel(rawValue: $1.text) ?? .info },
        .init(
            "log.format", .choice(Configuration.LogFormat.allCases.map(\.rawValue)), .value("text"),
            "`text` is key=value, `json` one object a line."
        ) { $0.log.format = Configuration.LogFormat(rawValue: $1.text) ?? .text },
        .init(
            "records.size", .size(1 << 20...1 << 40), .value("64MiB"),
            "Bytes of connection records kept on disk; the oldest go first."
        ) { $0.recordsBytesMax = $1.number },
    ]
}
