import HotKeyRegistry
import ZooKeeper

extension ConfigurationLoader {
    /// Reads the files that hold secrets. What they hold is never repeated, also not by errors.
    func readSecrets(into layers: inout Layers) {
        guard !layers.configuration.standalone else {
            // The settings that name files are refused by name already.
            if environment[DigestLogin.variable]?.isEmpty == false {
                layers.problems.append(
                    "\(DigestLogin.variable): expected nothing beside standalone, which uses no ZooKeeper: leave out one of "
                        + "the two")
            }
            return
        }
        do {
            layers.configuration.zookeeper.credentials = try login(layers)
        } catch {
            layers.problems.append(error.message)
        }
        readPassphrase(into: &layers)
        checkTLS(&layers)
    }

    /// A flag wins over a variable, a variable over the configuration file.
    private func login(_ layers: Layers) throws(RegistryError) -> DigestLogin? {
        let variable = environment[DigestLogin.variable].flatMap { $0.isEmpty ? nil : $0 }
        let name = "zookeeper.digestFile"
        let path = layers.configuration.zookeeper.digestFile
        guard let variable else {
            return try path.map { path throws(RegistryError) in try DigestLogin(file: path, name: name) }
        }
        switch layers.origins[name] {
        case .flag:
            guard let path else { return nil }
            return try DigestLogin(file: path, name: name)
        case .environment(let other):
            throw RegistryError(
                .badArgument,
                "\(DigestLogin.variable) and \(other) are both set: expected one of them, as each says who this is")
        default: return try DigestLogin(line: Array(variable.utf8), source: DigestLogin.variable)
        }
    }

    private func readPassphrase(into layers: inout Layers) {
        guard let path = layers.configuration.zookeeper.tlsPassphraseFile else { return }
        do {
            let lines = try SecretFile.read(path, name: "zookeeper.tlsPassphraseFile").split {
                $0 == 0x0a || $0 == 0x0d
            }
            guard lines.count == 1, let text = String(validating: lines[0], as: UTF8.self) else {
                layers.problems.append("zookeeper.tlsPassphraseFile \(path): expected one line, found something else")
                return
            }
            layers.configuration.zookeeper.tlsPassphrase = Secret(text)
        } catch {
            layers.problems.append(error.message)
        }
    }

    private func checkTLS(_ layers: inout Layers) {
        let zookeeper = layers.configuration.zookeeper
        let files = [
            ("zookeeper.tlsCaFile", zookeeper.tlsCaFile),
            ("zookeeper.tlsCertificateFile", zookeeper.tlsCertificateFile),
            ("zookeeper.tlsKeyFile", zookeeper.tlsKeyFile),
        ]
        let given = files.filter { $0.1 != nil }.map(\.0)
        guard !given.isEmpty || zookeeper.tlsPassphraseFile != nil else { return }
        guard given.count == files.count else {
            let missing = files.filter { $0.1 == nil }.map(\.0)
            layers.problems.append(
                "\(missing.joined(separator: ", ")): expected a file, found none: TLS needs the authority, the certificate "
                    + "and the key together")
            return
        }
        guard isTLSAvailable else {
            layers.problems.append("\(given[0]): \(ZooKeeperTLS.unavailable)")
            return
        }
        do {
            _ = try zookeeper.tls()
        } catch {
            layers.problems.append("zookeeper: \(error)")
        }
    }
}

extension AgentConfiguration.ZooKeeper {
    /// nil: the connection is not encrypted. Throws when a file cannot be read.
    func tls() throws -> ZooKeeperTLS? {
        guard let tlsCaFile, let tlsCertificateFile, let tlsKeyFile else { return nil }
        return try ZooKeeperTLS(
            certificateAuthorityFile: tlsCaFile, certificateChainFile: tlsCertificateFile, privateKeyFile: tlsKeyFile,
            passphrase: tlsPassphrase?.revealed)
    }
}

extension ZooKeeperTLS {
    /// What is said where TLS is asked for and the installed library has none.
    static let unavailable = """
        the installed ZooKeeper client library (libzookeeper_mt, as Debian builds it) has no TLS. Install one that was built \
        with OpenSSL, or leave TLS out here and connect to a tunnel on this host such as stunnel (docs/security.md)
        """
}
