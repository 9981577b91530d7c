import ArgumentParser
import HotKeyPeer
import TransportSecurity

/// How agents are asked: with which password, and encrypted or not. The same files as the agents' `peerSecurity`.
struct PeerOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            """
            A file with the password that the fleet's agents share, which others than its owner and group cannot read. \
            (default: HOTKEY_PEER_PASSWORD_FILE)
            """, valueName: "file"))
    var peerPasswordFile: String?

    @Option(
        help: ArgumentHelp(
            "TLS to agents: the authority that signed their certificates, PEM.", valueName: "file", visibility: .hidden)
    )
    var peerTlsCaFile: String?

    @Option(
        help: ArgumentHelp("TLS to agents: this client's certificate, PEM.", valueName: "file", visibility: .hidden))
    var peerTlsCertificateFile: String?

    @Option(help: ArgumentHelp("TLS to agents: this client's key, PEM.", valueName: "file", visibility: .hidden))
    var peerTlsKeyFile: String?

    @Option(
        help: ArgumentHelp(
            "TLS to agents: what their certificates must be for. (default: the host that is dialled)",
            valueName: "name",
            visibility: .hidden))
    var peerTlsServerName: String?

    /// Reads the files.
    func security() throws -> PeerSecurity {
        let tls = try ClientTLS(
            "peer", to: "agents", authority: peerTlsCaFile, certificate: peerTlsCertificateFile, key: peerTlsKeyFile,
            serverName: peerTlsServerName)
        var security = PeerSecurity()
        do {
            if let path = GlobalOptions.value(peerPasswordFile, or: "HOTKEY_PEER_PASSWORD_FILE") {
                let password = try SharedPassword.reloaded(path, name: "--peer-password-file").current.presented
                security.password = { password }
            }
            security.tls = try tls.client()
        } catch {
            throw Failure(.failed, "\(error).", "No agent was asked.")
        }
        return security
    }
}
