import ArgumentParser
import HotKeyScan
import TransportSecurity

/// How cache nodes are asked: as whom, and encrypted or not. The same files as the agents' `upstream`.
struct NodeOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            """
            A file with lines USER:PASSWORD (for all nodes) or 'node NAME USER:PASSWORD', which others than its owner and group \
            cannot read. (default: HOTKEY_NODE_CREDENTIALS_FILE)
            """, valueName: "file"))
    var nodeCredentialsFile: String?

    @Option(
        help: ArgumentHelp(
            "TLS to nodes: the authority that signed their certificates, PEM.", valueName: "file", visibility: .hidden))
    var nodeTlsCaFile: String?

    @Option(
        help: ArgumentHelp("TLS to nodes: this client's certificate, PEM.", valueName: "file", visibility: .hidden))
    var nodeTlsCertificateFile: String?

    @Option(help: ArgumentHelp("TLS to nodes: this client's key, PEM.", valueName: "file", visibility: .hidden))
    var nodeTlsKeyFile: String?

    @Option(
        help: ArgumentHelp(
            "TLS to nodes: what their certificates must be for. (default: the host that is dialled)", valueName: "name",
            visibility: .hidden))
    var nodeTlsServerName: String?

    /// Reads the files.
    func apply(to configuration: inout KeyspaceScan.Configuration) throws {
        let tls = try ClientTLS(
            "node", to: "nodes", authority: nodeTlsCaFile, certificate: nodeTlsCertificateFile, key: nodeTlsKeyFile,
            serverName: nodeTlsServerName)
        do {
            if let path = GlobalOptions.value(nodeCredentialsFile, or: "HOTKEY_NODE_CREDENTIALS_FILE") {
                let logins = try NodeLogins.reloaded(path, name: "--node-credentials-file").current
                configuration.login = { logins.login(node: $0) }
            }
            configuration.tls = try tls.client()
        } catch {
            throw Failure(.failed, "\(error).", "No node was asked.")
        }
    }
}
