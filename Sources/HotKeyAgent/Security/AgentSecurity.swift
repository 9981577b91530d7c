import HotKeyPeer
import RedisProxy
import TransportSecurity

/// Everything that certificates and passwords decide, made of the files that the configuration names.
struct AgentSecurity: Sendable {
    let listen: ListenerSecurity
    let peer: ListenerSecurity
    /// For dialling other agents.
    let peerClient: PeerSecurity
    let upstream: UpstreamSecurity
    /// What changes with its files.
    let files: [any Reloadable]

    /// Reads the files.
    init(_ configuration: AgentConfiguration) throws(TransportSecurityError) {
        let front = try configuration.listenSecurity.load(configuration)
        let peers = try configuration.peerSecurity.load()
        let nodes = try configuration.upstream.load()
        listen = front.listener
        peer = peers.listener
        peerClient = peers.client
        upstream = nodes.security
        files = front.files + peers.files + nodes.files
    }

    /// Why files that have changed are not in use; no secret is among it.
    var problems: [String] { files.compactMap(\.problem) }

    /// Everything that is wrong with the files.
    static func problems(_ configuration: AgentConfiguration) -> [String] {
        var problems: [String] = []
        func check(_ body: () throws(TransportSecurityError) -> Void) {
            do { try body() } catch { problems.append(error.message) }
        }
        check { () throws(TransportSecurityError) in _ = try configuration.listenSecurity.load(configuration) }
        check { () throws(TransportSecurityError) in _ = try configuration.peerSecurity.load() }
        check { () throws(TransportSecurityError) in _ = try configuration.upstream.load() }
        return problems
    }
}

extension AgentConfiguration.ListenSecurity {
    /// Whether a client has to show who it is.
    var authenticates: Bool { passwordFile != nil || usersFile != nil || tlsClientCaFile != nil }

    fileprivate func load(
        _ configuration: AgentConfiguration
    ) throws(TransportSecurityError) -> (listener: ListenerSecurity, files: [any Reloadable]) {
        var listener = ListenerSecurity()
        var files: [any Reloadable] = []
        listener.socketMode = UInt32(configuration.listenMode)
        listener.socketGroup = configuration.listenGroup
        if passwordFile != nil || usersFile != nil {
            let list = try AccessList.reloaded(
                passwordFile: passwordFile, usersFile: usersFile,
                names: ("listenSecurity.passwordFile", "listenSecurity.usersFile"))
            listener.access = { list.current }
            files.append(list)
        }
        if tlsCertificateFile != nil {
            let tls = try TLSServer(
                TLSFiles(
                    certificate: tlsCertificateFile, key: tlsKeyFile, authority: tlsClientCaFile,
                    names: .init(
                        certificate: "listenSecurity.tlsCertificateFile", key: "listenSecurity.tlsKeyFile",
                        authority: "listenSecurity.tlsClientCaFile")), name: "listenSecurity.tlsCertificateFile")
            listener.tls = tls
            files.append(tls.files)
        }
        return (listener, files)
    }
}

extension AgentConfiguration.PeerSecurity {
    /// Whether whoever connects has to show who it is.
    var authenticates: Bool { passwordFile != nil || requireClientCertificates && tlsCertificateFile != nil }

    fileprivate func load() throws(TransportSecurityError) -> (
        listener: ListenerSecurity, client: PeerSecurity, files: [any Reloadable]
    ) {
        var listener = ListenerSecurity()
        var client = PeerSecurity()
        var files: [any Reloadable] = []
        if let passwordFile {
            let password = try SharedPassword.reloaded(passwordFile, name: "peerSecurity.passwordFile")
            listener.access = { password.current.accepted }
            client.password = { password.current.presented }
            files.append(password)
        }
        if tlsCertificateFile != nil {
            var own = TLSFiles(
                certificate: tlsCertificateFile, key: tlsKeyFile, authority: tlsCaFile,
                names: .init(
                    certificate: "peerSecurity.tlsCertificateFile", key: "peerSecurity.tlsKeyFile",
                    authority: "peerSecurity.tlsCaFile"))
            let dialling = try TLSClient(own, serverName: tlsServerName, name: "peerSecurity.tlsCaFile")
            if !requireClientCertificates { own.authority = nil }
            let listening = try TLSServer(own, name: "peerSecurity.tlsCertificateFile")
            listener.tls = listening
            client.tls = dialling
            files += [listening.files, dialling.files]
        }
        return (listener, client, files)
    }
}

extension AgentConfiguration.Upstream {
    fileprivate func load() throws(TransportSecurityError) -> (security: UpstreamSecurity, files: [any Reloadable]) {
        var security = UpstreamSecurity()
        var files: [any Reloadable] = []
        if let credentialsFile {
            let logins = try NodeLogins.reloaded(credentialsFile, name: "upstream.credentialsFile")
            security.logins = { logins.current }
            files.append(logins)
        }
        if tlsCaFile != nil {
            let tls = try TLSClient(
                TLSFiles(
                    certificate: tlsCertificateFile, key: tlsKeyFile, authority: tlsCaFile,
                    names: .init(
                        certificate: "upstream.tlsCertificateFile", key: "upstream.tlsKeyFile",
                        authority: "upstream.tlsCaFile")), serverName: tlsServerName, name: "upstream.tlsCaFile")
            security.tls = tls
            files.append(tls.files)
        }
        return (security, files)
    }
}
