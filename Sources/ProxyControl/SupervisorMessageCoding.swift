import MeshModel

extension SupervisorMessage {
    private enum Kind: UInt8 {
        case welcome = 1, snapshot, certificate, retireCertificate, trust, listener, closeListener, dialSockets
        case workloadGone, networkNamespaceGone, drain, report, giveListeners, nameAdmitted
    }

    /// The message's bytes; its descriptors travel beside them. At most `ControlLimits.bodyBytesMax` as long as a
    /// certificate chain or trust bundle is. Those of a certificate hold its key: who sends them cleanses them.
    package func encode() -> [UInt8] {
        var writer = WireWriter(kind: kind.rawValue)
        switch self {
        case .welcome(let settings): writer.settings(settings)
        case .snapshot(let version, let length):
            writer.number(version)
            writer.number(length)
        case .certificate(let certificate):
            writer.text(certificate.principal)
            writer.blob(certificate.chain)
            writer.secret(certificate.key)
        case .retireCertificate(let principal): writer.text(principal)
        case .trust(let trustDomain, let bundle):
            writer.text(trustDomain)
            writer.blob(bundle)
        case .listener(let listener): writer.listener(listener)
        case .closeListener(let id): writer.number(id)
        case .dialSockets(let pool): writer.pool(pool)
        case .workloadGone(let workload): writer.number(workload.rawValue)
        case .networkNamespaceGone(let networkNamespace): writer.number(networkNamespace.rawValue)
        case .drain(let deadline, let listenersStay):
            writer.number(deadline)
            writer.flag(listenersStay)
        case .report, .giveListeners: break
        case .nameAdmitted(let token): writer.number(token)
        }
        return writer.bytes
    }

    package init(decoding bytes: UnsafeRawBufferPointer) throws(ControlError) {
        var (number, body) = try WireReader.open(bytes)
        guard let kind = Kind(rawValue: number) else { throw .unknownKind(number) }
        switch kind {
        case .welcome: self = .welcome(try body.settings())
        case .snapshot:
            let version = try body.number("version", as: UInt64.self)
            self = .snapshot(version: version, length: try body.number("length"))
        case .certificate:
            let principal = try body.text("principal")
            let chain = try body.blob("chain")
            self = .certificate(WorkloadCertificate(principal: principal, chain: chain, key: try body.secret("key")))
        case .retireCertificate: self = .retireCertificate(principal: try body.text("principal"))
        case .trust:
            let trustDomain = try body.text("trust domain")
            self = .trust(trustDomain: trustDomain, bundle: try body.blob("bundle"))
        case .listener: self = .listener(try body.listener())
        case .closeListener: self = .closeListener(id: try body.number("listener"))
        case .dialSockets: self = .dialSockets(pool: try body.pool())
        case .workloadGone: self = .workloadGone(try body.workload("workload"))
        case .networkNamespaceGone: self = .networkNamespaceGone(try body.networkNamespace())
        case .drain:
            let deadline = try body.number("deadline", as: UInt32.self)
            self = .drain(deadlineMilliseconds: deadline, listenersStay: try body.appendedFlag("listeners stay"))
        case .report: self = .report
        case .giveListeners: self = .giveListeners
        case .nameAdmitted: self = .nameAdmitted(token: try body.number("token"))
        }
    }

    private var kind: Kind {
        switch self {
        case .welcome: .welcome
        case .snapshot: .snapshot
        case .certificate: .certificate
        case .retireCertificate: .retireCertificate
        case .trust: .trust
        case .listener: .listener
        case .closeListener: .closeListener
        case .dialSockets: .dialSockets
        case .workloadGone: .workloadGone
        case .networkNamespaceGone: .networkNamespaceGone
        case .drain: .drain
        case .report: .report
        case .giveListeners: .giveListeners
        case .nameAdmitted: .nameAdmitted
        }
    }
}

extension WireWriter {
    fileprivate mutating func settings(_ value: ProxySettings) {
        number(value.loops)
        number(value.memoryBudget)
        number(value.descriptorsMax)
        number(value.tunnelsMax)
        number(value.streamsPerTunnelMax)
        number(value.handshakeTimeoutMilliseconds)
        number(value.headersTimeoutMilliseconds)
        number(value.connectTimeoutMilliseconds)
        number(value.idleTunnelTimeoutMilliseconds)
        number(value.pingIntervalMilliseconds)
        number(value.pingTimeoutMilliseconds)
        number(value.slowPeerTimeoutMilliseconds)
        number(value.beatIntervalMilliseconds)
        number(value.tunnelPort)
        text(value.node)
        text(value.trustDomain)
        text(value.meshDomain)
        number(value.namesTimeToLiveSeconds)
        text(value.cluster)
        number(value.tunnelsUnderLossMax)
    }
}

extension WireReader {
    fileprivate mutating func settings() throws(ControlError) -> ProxySettings {
        var value = ProxySettings()
        value.loops = try number("loops")
        value.memoryBudget = try number("memory budget")
        value.descriptorsMax = try number("descriptors")
        value.tunnelsMax = try number("tunnels")
        value.streamsPerTunnelMax = try number("streams per tunnel")
        value.handshakeTimeoutMilliseconds = try number("handshake timeout")
        value.headersTimeoutMilliseconds = try number("headers timeout")
        value.connectTimeoutMilliseconds = try number("connect timeout")
        value.idleTunnelTimeoutMilliseconds = try number("idle tunnel timeout")
        value.pingIntervalMilliseconds = try number("ping interval")
        value.pingTimeoutMilliseconds = try number("ping timeout")
        value.slowPeerTimeoutMilliseconds = try number("slow peer timeout")
        value.beatIntervalMilliseconds = try number("beat interval")
        value.tunnelPort = try number("tunnel port")
        value.node = try text("node")
        value.trustDomain = try text("trust domain")
        value.meshDomain = try text("mesh domain")
        value.namesTimeToLiveSeconds = try number("time to live")
        value.cluster = try text("cluster")
        value.tunnelsUnderLossMax = try appendedNumber("tunnels under loss") ?? 1
        return value
    }
}
