internal import CZooKeeper

/// The library's entry point for TLS, looked up at run time: a build without OpenSSL does not export it, and linking
/// against it would keep this program from starting there.
enum LibraryTLS {
    /// Sendable because it is the address of a function, which never changes.
    struct EntryPoint: @unchecked Sendable {
        let pointer: UnsafeMutableRawPointer
    }

    static let entryPoint: EntryPoint? = czk_ssl_entry_point().map { EntryPoint(pointer: $0) }

    /// `authority,certificate,key[,passphrase]`, which the library takes apart at the commas.
    static func certificateList(_ tls: ZooKeeperTLS) -> String {
        ([tls.certificateAuthorityFile, tls.certificateChainFile, tls.privateKeyFile]
            + (tls.passphrase.map { [$0] } ?? [])).joined(separator: ",")
    }
}
