import Foundation

/// TLS between client and servers: the files that the C library takes.
///
/// Debian's `libzookeeper_mt` has no TLS. Whether the library that is loaded has it is found out when a
/// ``ZooKeeperConfiguration`` is made, by looking for its entry point `zookeeper_init_ssl` (ZooKeeper 3.6 and later,
/// built with OpenSSL); without it a configuration with TLS is refused, never silently weakened.
///
/// What that library does, read in its source and not in this client's hands: it presents the client certificate, demands
/// a server certificate signed by the given authority **or by one of the system's**, and does not compare the
/// server's name. It also waits without a limit for a server that accepts and never finishes the handshake. Where
/// that is not enough, a tunnel such as stunnel on the same host (with `checkHost` and `verifyChain`) is stricter.
/// A connection through that entry point has been tried with no library so far, as none was at hand.
public struct ZooKeeperTLS: Sendable, Hashable {
    /// PEM: the authority that signed the servers' certificates.
    public let certificateAuthorityFile: String
    /// PEM: this client's certificate and the chain to its authority. The C library requires one.
    public let certificateChainFile: String
    /// PEM: this client's key.
    public let privateKeyFile: String
    /// For a key that is encrypted. Never printed, dumped or logged.
    let passphrase: String?

    /// - Throws: ``StoreError/Code/badArguments``: a file cannot be read, or a value holds a comma, which the C library
    ///   takes for a separator.
    public init(
        certificateAuthorityFile: String, certificateChainFile: String, privateKeyFile: String,
        passphrase: String? = nil
    ) throws {
        for (name, file) in [
            ("certificateAuthorityFile", certificateAuthorityFile), ("certificateChainFile", certificateChainFile),
            ("privateKeyFile", privateKeyFile),
        ] {
            guard Self.isPassable(file) else {
                throw StoreError(
                    .badArguments, message: "tls.\(name): \"\(file)\"; expected a file name without commas")
            }
            guard FileManager.default.isReadableFile(atPath: file) else {
                throw StoreError(.badArguments, message: "tls.\(name): \(file) cannot be read")
            }
        }
        if let passphrase {
            guard Self.isPassable(passphrase) else {
                throw StoreError(
                    .badArguments,
                    message: "tls.passphrase: it is empty or holds a comma, which the ZooKeeper library cannot take; "
                        + "give the key another one")
            }
        }
        self.certificateAuthorityFile = certificateAuthorityFile
        self.certificateChainFile = certificateChainFile
        self.privateKeyFile = privateKeyFile
        self.passphrase = passphrase
    }

    private static func isPassable(_ text: String) -> Bool {
        !text.isEmpty && text.utf8.allSatisfy { $0 != UInt8(ascii: ",") && $0 != 0 }
    }

    /// Whether the library that is loaded can do it.
    public static var isAvailable: Bool { LibraryTLS.entryPoint != nil }

    static func requireAvailable() throws {
        guard !isAvailable else { return }
        throw StoreError(
            .badArguments,
            message:
                "tls: the ZooKeeper client library that is installed (libzookeeper_mt, as Debian builds it) has no "
                + "TLS. Either install a libzookeeper_mt 3.6 or later that was built with OpenSSL (./configure "
                + "--with-openssl) where the loader finds it first (LD_LIBRARY_PATH or /etc/ld.so.conf.d), or leave tls "
                + "out and connect to a TLS tunnel such as stunnel on 127.0.0.1. Nothing was connected")
    }
}

extension ZooKeeperTLS: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String {
        "TLS(authority: \(certificateAuthorityFile), certificate: \(certificateChainFile), key: \(privateKeyFile))"
    }
    public var debugDescription: String { description }
    public var customMirror: Mirror {
        Mirror(
            self,
            children: [
                "certificateAuthorityFile": certificateAuthorityFile, "certificateChainFile": certificateChainFile,
                "privateKeyFile": privateKeyFile, "passphrase": passphrase == nil ? "none" : "<hidden>",
            ])
    }
}
