import TransportSecurity

/// TLS to servers of one kind, as options give it or, where one is left out, the variable of the same name.
struct ClientTLS {
    private let files: TLSFiles
    private let serverName: String?

    /// - Parameters:
    ///   - kind: whose options these are: `peer` for `--peer-tls-ca-file` and `HOTKEY_PEER_TLS_CA_FILE`.
    ///   - servers: what is asked, as an error calls it.
    init(
        _ kind: String, to servers: String, authority: String?, certificate: String?, key: String?, serverName: String?
    ) throws {
        func value(_ option: String?, _ name: String) -> String? {
            GlobalOptions.value(option, or: "HOTKEY_\(kind.uppercased())_TLS_\(name)")
        }
        let names = TLSFiles.Names(
            certificate: "--\(kind)-tls-certificate-file", key: "--\(kind)-tls-key-file",
            authority: "--\(kind)-tls-ca-file")
        files = TLSFiles(
            certificate: value(certificate, "CERTIFICATE_FILE"), key: value(key, "KEY_FILE"),
            authority: value(authority, "CA_FILE"), names: names)
        self.serverName = value(serverName, "SERVER_NAME")
        guard (files.certificate == nil) == (files.key == nil) else {
            throw Failure(.usage, "\(names.certificate) and \(names.key) go together: one of them is missing.")
        }
        guard files.authority != nil || (files.certificate == nil && self.serverName == nil) else {
            throw Failure(.usage, "\(names.authority) is missing: it switches TLS to \(servers) on.")
        }
    }

    /// Reads the files; `nil` when there is to be no TLS.
    func client() throws -> TLSClient? {
        guard files.authority != nil else { return nil }
        return try TLSClient(files, serverName: serverName, name: files.names.authority)
    }
}
