import HotKeyRegistry

/// A file that says who has which role.
enum AccessFile {
    /// Refuses one that would lock out whoever applies it: nobody but ZooKeeper's super user could put that right.
    static func read(_ file: String, as login: DigestLogin?) throws -> RegistryAccess {
        let name = file == "-" ? "standard input" : file
        let access = try RegistryCodec.decode(
            RegistryAccess.self, from: InputFile.bytes(file, name: name, max: RegistryAccess.bytesMax), source: name)
        guard let login else {
            throw Failure(
                .failed, "\(name) would lock you out: this session does not authenticate.", "Nothing was changed.",
                "Give an operator's user and password with --zookeeper-digest-file FILE, HOTKEY_ZOOKEEPER_DIGEST_FILE or "
                    + "HOTKEY_ZOOKEEPER_AUTH.")
        }
        guard login.identity.isSuperUser || access.role(of: login.identity) == .operator else {
            throw Failure(
                .failed,
                "\(name) would lock you out: \(login.user), as whom you authenticate (\(login.source)), with this password is "
                    + "none of its operators.", "Nothing was changed.",
                "Add to its operators what 'hkctl acl digest' prints for that user and password, or authenticate as one of "
                    + "them.")
        }
        return access
    }
}
