import RedisProxy

extension AgentConfiguration {
    /// Why the peer listener must not be opened as it is set; nil when it may be.
    var reasonNotToOpenPeer: String? {
        guard !peer.isLoopback, !peerSecurity.authenticates else { return nil }
        return """
            other hosts could connect and nobody would ask who they are. Set peerSecurity.passwordFile to a file that all agents and \
            tools of the fleet have, or peerSecurity.requireClientCertificates with peerSecurity.tlsCertificateFile, tlsKeyFile and \
            tlsCaFile (docs/security.md)
            """
    }

    /// Why the app listener must not be opened as it is set. Redis's protected mode is the model: nobody opens a cache to a network
    /// by leaving something out.
    var reasonNotToOpenListener: String? {
        guard let listener = appListener, !listener.isLoopback, !listenSecurity.authenticates,
            !listenSecurity.allowUnauthenticated
        else { return nil }
        return """
            other hosts could connect and nobody would ask who they are. Set listenSecurity.passwordFile, usersFile or \
            tlsClientCaFile, or say with listenSecurity.allowUnauthenticated that everyone who reaches it may use it (docs/security.md)
            """
    }
}

extension ConfigurationLoader {
    /// Who may connect from where, and whether what belongs together is there together.
    func checkAccess(_ layers: inout Layers) {
        let configuration = layers.configuration
        if let reason = configuration.reasonNotToOpenPeer {
            layers.refuse("peer", expected: "authentication beside it, or a loopback address", because: reason)
        }
        if let reason = configuration.reasonNotToOpenListener {
            layers.refuse("listen", expected: "authentication beside it, or a loopback address", because: reason)
        }
        warnOfOpenListeners(&layers)
        if let name = DeniedCommands.unknownName(in: configuration.denyCommands) {
            layers.refuse(
                "denyCommands", expected: "names of Redis 7.0 commands, such as flushall or config|set",
                because: "there is no command \(name)")
        }
        checkPair(
            &layers, "listenSecurity.", ("tlsCertificateFile", configuration.listenSecurity.tlsCertificateFile),
            ("tlsKeyFile", configuration.listenSecurity.tlsKeyFile))
        if configuration.listenSecurity.tlsClientCaFile != nil, configuration.listenSecurity.tlsCertificateFile == nil {
            layers.refuse("listenSecurity.tlsClientCaFile", expected: "listenSecurity.tlsCertificateFile beside it")
        }
        checkPeerTLS(&layers)
        checkPair(
            &layers, "upstream.", ("tlsCertificateFile", configuration.upstream.tlsCertificateFile),
            ("tlsKeyFile", configuration.upstream.tlsKeyFile))
        for (name, value) in [
            ("upstream.tlsCertificateFile", configuration.upstream.tlsCertificateFile),
            ("upstream.tlsServerName", configuration.upstream.tlsServerName),
        ] where value != nil && configuration.upstream.tlsCaFile == nil {
            layers.refuse(name, expected: "upstream.tlsCaFile beside it, which switches TLS on")
        }
    }

    private func warnOfOpenListeners(_ layers: inout Layers) {
        let configuration = layers.configuration
        if let listener = configuration.appListener, !listener.isLoopback {
            if !configuration.listenSecurity.authenticates {
                layers.warnings.append(
                    "listen accepts connections from other hosts (\(listener)) and asks nobody who they are: restrict it to the "
                        + "hosts that need it")
            } else if configuration.listenSecurity.tlsCertificateFile == nil {
                layers.warnings.append(
                    "listen takes passwords from other hosts (\(listener)) without TLS: whoever can listen in between has them"
                )
            }
        }
        if !configuration.peer.isLoopback, configuration.peerSecurity.authenticates,
            configuration.peerSecurity.tlsCertificateFile == nil
        {
            layers.warnings.append(
                "peer takes passwords from other hosts (\(configuration.peer)) without TLS: whoever can listen in between has "
                    + "them")
        }
        if !configuration.admin.isLoopback {
            layers.warnings.append(
                "admin accepts connections from other hosts (\(configuration.admin)) and asks nobody who they are: restrict it to "
                    + "the hosts that need it")
        }
        if case .unix = configuration.listen { return }
        for name in ["listenMode", "listenGroup"] where layers.origins[name] != nil {
            layers.warnings.append("\(name) has no effect: listen is no Unix socket")
        }
    }

    private func checkPeerTLS(_ layers: inout Layers) {
        let peer = layers.configuration.peerSecurity
        let files = [
            ("tlsCertificateFile", peer.tlsCertificateFile), ("tlsKeyFile", peer.tlsKeyFile),
            ("tlsCaFile", peer.tlsCaFile),
        ]
        let given = files.filter { $0.1 != nil }.map(\.0)
        for (name, value) in files where !given.isEmpty && value == nil {
            layers.problems.append(
                "peerSecurity.\(name): expected a file, found none: TLS between agents needs certificate, key and authority "
                    + "together")
        }
        guard given.isEmpty else { return }
        if peer.tlsServerName != nil {
            layers.refuse("peerSecurity.tlsServerName", expected: "peerSecurity.tlsCertificateFile beside it")
        }
        if peer.requireClientCertificates {
            layers.refuse(
                "peerSecurity.requireClientCertificates", expected: "peerSecurity.tlsCertificateFile beside it")
        }
    }

    private func checkPair(
        _ layers: inout Layers, _ group: String, _ one: (name: String, value: String?),
        _ two: (name: String, value: String?)
    ) {
        switch (one.value, two.value) {
        case (.some, nil): layers.refuse(group + one.name, expected: "\(group)\(two.name) beside it")
        case (nil, .some): layers.refuse(group + two.name, expected: "\(group)\(one.name) beside it")
        default: break
        }
    }

    /// Reads what the configuration names, so that a mistake shows before anything is opened. What secrets hold is never repeated.
    func readSecurityFiles(into layers: inout Layers) {
        // What is missing has been said.
        guard layers.problems.isEmpty else { return }
        layers.problems += AgentSecurity.problems(layers.configuration)
    }
}
