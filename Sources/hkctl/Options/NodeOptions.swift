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
        func value(_ option: String?, _ variable: String) -> String? { option ?? GlobalOptions.environment(variable) }
        let names = TLSFiles.Names(
            certificate: "--node-tls-certificate-file", key: "--node-tls-key-file", authority: "--node-tls-ca-file")
        let files = TLSFiles(
            certificate: value(nodeTlsCertificateFile, "HOTKEY_NODE_TLS_CERTIFICATE_FILE"),
            key: value(nodeTlsKeyFile, "HOTKEY_NODE_TLS_KEY_FILE"),
            authority: value(nodeTlsCaFile, "HOTKEY_NODE_TLS_CA_FILE"), names: names)
        let serverName = value(nodeTlsServerName, "HOTKEY_NODE_TLS_SERVER_NAME")
        guard (files.certificate == nil) == (files.key == nil) else {
            throw Failure(.usage, "\(names.certificate) and \(names.key) go together: one of them is missing.")
        }
        guard files.authority != nil || (files.certificate == nil && serverName == nil) else {
            throw Failure(.usage, "\(names.authority) is missing: it switches TLS to nodes on.")
        }
        do {
            if let path = value(nodeCredentialsFile, "HOTKEY_NODE_CREDENTIALS_FILE") {
                let logins = try NodeLogins.reloaded(path, name: "--node-credentials-file").current
                configuration.login = { logins.login(node: $0) }
            }
            if files.authority != nil {
                configuration.tls = try TLSClient(files, serverName: serverName, name: names.authority)
            }
        } catch {
            throw Failure(.failed, "\(error).", "No node was asked.")
        }
    }
}
