import MeshConfig
import ProxyControl

extension ConfigurationFile {
    /// What a proxy is told about limits and times.
    var proxySettings: ProxySettings {
        let proxy = configuration.proxy
        var settings = ProxySettings()
        settings.loops = loops
        settings.memoryBudget = proxy.memoryBudgetBytes
        settings.descriptorsMax = proxy.descriptorsMax
        settings.tunnelsMax = proxy.tunnelsMax
        settings.tunnelsUnderLossMax = proxy.tunnelsUnderLossMax
        settings.streamsPerTunnelMax = proxy.streamsPerTunnelMax
        settings.handshakeTimeoutMilliseconds = proxy.handshakeTimeoutMilliseconds
        settings.headersTimeoutMilliseconds = proxy.headersTimeoutMilliseconds
        settings.connectTimeoutMilliseconds = proxy.connectTimeoutMilliseconds
        settings.idleTunnelTimeoutMilliseconds = proxy.idleTunnelTimeoutMilliseconds
        settings.pingIntervalMilliseconds = proxy.pingIntervalMilliseconds
        settings.pingTimeoutMilliseconds = proxy.pingTimeoutMilliseconds
        settings.slowPeerTimeoutMilliseconds = proxy.slowPeerTimeoutMilliseconds
        settings.tunnelPort = configuration.tunnelPort
        settings.node = configuration.node
        settings.trustDomain = configuration.trustDomain
        settings.meshDomain = configuration.names.domain
        // A name is not kept longer than what stands behind it is served.
        settings.namesTimeToLiveSeconds = min(5, proxy.drainTimeoutMilliseconds / 1_000)
        settings.cluster = configuration.cluster
        return settings
    }
}
