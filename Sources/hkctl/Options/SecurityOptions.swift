import ArgumentParser
import HotKeyRegistry
import ZooKeeper

/// How the session with ZooKeeper authenticates and encrypts. Secrets come from files or the environment, never from the
/// command line, which every user of the host can read.
struct SecurityOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            """
            A file with one line, USER:PASSWORD, that others than its owner and group cannot read. \
            (default: HOTKEY_ZOOKEEPER_DIGEST_FILE, or the line itself in HOTKEY_ZOOKEEPER_AUTH)
            """, valueName: "file"))
    var zookeeperDigestFile: String?

    @Option(
        help: ArgumentHelp(
            "TLS: the authority that signed the servers' certificates, PEM.", valueName: "file", visibility: .hidden))
    var zookeeperTlsCaFile: String?

    @Option(help: ArgumentHelp("TLS: this client's certificate, PEM.", valueName: "file", visibility: .hidden))
    var zookeeperTlsCertificateFile: String?

    @Option(help: ArgumentHelp("TLS: this client's key, PEM.", valueName: "file", visibility: .hidden))
    var zookeeperTlsKeyFile: String?

    @Option(
        help: ArgumentHelp(
            "TLS: a file with one line, the passphrase of the key.", valueName: "file", visibility: .hidden))
    var zookeeperTlsPassphraseFile: String?

    private static let fileVariable = "HOTKEY_ZOOKEEPER_DIGEST_FILE"

    /// Nil: the session does not authenticate. The flag wins over both variables; of these only one may be set.
    func login() throws -> DigestLogin? {
        if let zookeeperDigestFile {
            return try Self.reading { try DigestLogin(file: zookeeperDigestFile, name: "--zookeeper-digest-file") }
        }
        let file = GlobalOptions.environment(Self.fileVariable)
        let line = GlobalOptions.environment(DigestLogin.variable)
        switch (file, line) {
        case (nil, nil): return nil
        case (let file?, nil):
            return try Self.reading { try DigestLogin(file: file, name: Self.fileVariable) }
        case (nil, let line?):
            return try Self.reading { try DigestLogin(line: Array(line.utf8), source: DigestLogin.variable) }
        case (.some, .some):
            throw Failure(
                .usage, "\(Self.fileVariable) and \(DigestLogin.variable) are both set, and each says who you are.",
                "Unset one of them, or name a file with --zookeeper-digest-file.")
        }
    }

    /// A file that cannot be used is no wrong usage: it can be put right without another command.
    private static func reading<Value>(_ body: () throws -> Value) throws -> Value {
        do {
            return try body()
        } catch let error as RegistryError {
            throw Failure(.failed, "\(error.message).", "Nothing was connected.")
        }
    }

    func tls() throws -> ZooKeeperTLS? {
        let files: [(flag: String, file: String?)] = [
            ("--zookeeper-tls-ca-file", GlobalOptions.value(zookeeperTlsCaFile, or: "HOTKEY_ZOOKEEPER_TLS_CA_FILE")),
            (
                "--zookeeper-tls-certificate-file",
                GlobalOptions.value(zookeeperTlsCertificateFile, or: "HOTKEY_ZOOKEEPER_TLS_CERTIFICATE_FILE")
            ),
            ("--zookeeper-tls-key-file", GlobalOptions.value(zookeeperTlsKeyFile, or: "HOTKEY_ZOOKEEPER_TLS_KEY_FILE")),
        ]
        let passphrase = GlobalOptions.value(zookeeperTlsPassphraseFile, or: "HOTKEY_ZOOKEEPER_TLS_PASSPHRASE_FILE")
        guard files.contains(where: { $0.file != nil }) || passphrase != nil else { return nil }
        let missing = files.filter { $0.file == nil }.map(\.flag)
        guard missing.isEmpty else {
            throw Failure(
                .usage,
                "TLS needs the authority, the certificate and the key: \(missing.joined(separator: " and ")) missing."
            )
        }
        guard ZooKeeperTLS.isAvailable else {
            throw Failure(
                .failed, "The installed ZooKeeper client library (libzookeeper_mt, as Debian builds it) has no TLS.",
                "Nothing was connected.",
                "Install one that was built with OpenSSL, or leave TLS out and connect to a tunnel on this host such as "
                    + "stunnel (docs/security.md).")
        }
        let paths = files.compactMap(\.file)
        return try ZooKeeperTLS(
            certificateAuthorityFile: paths[0], certificateChainFile: paths[1], privateKeyFile: paths[2],
            passphrase: try passphrase.map { path in
                let line = try Self.reading { try SecretFile.read(path, name: "--zookeeper-tls-passphrase-file") }
                return String(decoding: line.prefix { $0 != 0x0a && $0 != 0x0d }, as: UTF8.self)
            })
    }
}
