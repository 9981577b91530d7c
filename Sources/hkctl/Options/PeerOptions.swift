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
        func value(_ option: String?, _ variable: String) -> String? { option ?? GlobalOptions.environment(variable) }
        let names = TLSFiles.Names(
            certificate: "--peer-tls-certificate-file", key: "--peer-tls-key-file", authority: "--peer-tls-ca-file")
        let files = TLSFiles(
            certificate: value(peerTlsCertificateFile, "HOTKEY_PEER_TLS_CERTIFICATE_FILE"),
            key: value(peerTlsKeyFile, "HOTKEY_PEER_TLS_KEY_FILE"),
            authority: value(peerTlsCaFile, "HOTKEY_PEER_TLS_CA_FILE"), names: names)
        let serverName = value(peerTlsServerName, "HOTKEY_PEER_TLS_SERVER_NAME")
        guard (files.certificate == nil) == (files.key == nil) else {
            throw Failure(.usage, "\(names.certificate) and \(names.key) go together: one of them is missing.")
        }
        guard files.authority != nil || (files.certificate == nil && serverName == nil) else {
            throw Failure(.usage, "\(names.authority) is missing: it switches TLS to agents on.")
        }
        var security = PeerSecurity()
        do {
            if let path = value(peerPasswordFile, "HOTKEY_PEER_PASSWORD_FILE") {
                let password = try SharedPassword.reloaded(path, name: "--peer-password-file").current.presented
                security.password = { password }
            }
            if files.authority != nil {
                security.tls = try TLSClient(files, serverName: serverName, name: names.authority)
            }
        } catch {
            throw Failure(.failed, "\(error).", "No agent was asked.")
        }
        return security
    }
}
