/// Proof of identity for ``ZooKeeperClient``. Its secret is never printed, dumped or logged.
public struct ZooKeeperCredential: Sendable, Hashable {
    public let scheme: String
    let secret: [UInt8]

    /// - Parameters:
    ///   - scheme: the authentication provider of the server, for example `digest`.
    ///   - secret: what the provider expects; for `digest` the bytes of `user:password`.
    public init(scheme: String, secret: [UInt8]) throws {
        guard !scheme.isEmpty, scheme.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f }) else {
            throw StoreError(
                .badArguments, message: "authentication: the scheme must be a word such as digest, not \"\(scheme)\"")
        }
        guard (1...ZooKeeperLimits.credentialBytesMax).contains(secret.count) else {
            throw StoreError(
                .badArguments,
                message: "authentication (\(scheme)): the secret has \(secret.count) bytes; expected 1 to "
                    + "\(ZooKeeperLimits.credentialBytesMax)")
        }
        self.scheme = scheme
        self.secret = secret
    }

    /// ZooKeeper's `digest` scheme.
    public static func digest(user: String, password: String) throws -> ZooKeeperCredential {
        guard !user.isEmpty, !user.contains(":") else {
            throw StoreError(
                .badArguments, message: "authentication (digest): the user must not be empty or hold a ':'")
        }
        return try ZooKeeperCredential(scheme: "digest", secret: Array("\(user):\(password)".utf8))
    }
}

extension ZooKeeperCredential: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "\(scheme):<hidden>" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: ["scheme": scheme, "secret": "<hidden>"]) }
}

/// Where the ensemble is and how patient the client is. A value that exists is valid: the initialisers refuse the rest.
public struct ZooKeeperConfiguration: Sendable, Hashable {
    /// `host:port`, in no order of preference. IPv6 addresses stand in brackets.
    public let servers: [String]
    /// Every path is taken below this node, and paths come back without it. `nil` or for example `/tenant`.
    /// The node has to exist.
    public let chroot: String?
    /// What is asked for; the server may grant another one (2 to 20 of its ticks).
    public let sessionTimeoutMilliseconds: Int
    /// How long an operation waits for its answer, waiting for a connection included.
    public let operationTimeoutMilliseconds: Int
    /// Given to every new session before any operation.
    public let authentication: [ZooKeeperCredential]
    /// Calls under way, those waiting for a connection and those whose wait was abandoned included. Beyond it an
    /// operation fails at once with ``StoreError/Code/tooManyInFlight``; nothing queues without a bound.
    public let maxInFlight: Int
    /// `nil`: the connection is not encrypted.
    public let tls: ZooKeeperTLS?

    /// - Throws: ``StoreError/Code/badArguments``, naming what is wrong; also when `tls` is given and the installed
    ///   library has none.
    public init(
        servers: [String], chroot: String? = nil,
        sessionTimeoutMilliseconds: Int = ZooKeeperLimits.sessionTimeoutMillisecondsDefault,
        operationTimeoutMilliseconds: Int = ZooKeeperLimits.operationTimeoutMillisecondsDefault,
        authentication: [ZooKeeperCredential] = [], maxInFlight: Int = ZooKeeperLimits.maxInFlightDefault,
        tls: ZooKeeperTLS? = nil
    ) throws {
        guard (1...ZooKeeperLimits.serversMax).contains(servers.count) else {
            throw StoreError(
                .badArguments,
                message: "servers: \(servers.count) given; expected 1 to \(ZooKeeperLimits.serversMax) of host:port")
        }
        for (index, server) in servers.enumerated() {
            guard Self.isServer(server) else {
                throw StoreError(
                    .badArguments, message: "servers[\(index)]: \"\(server)\" is not host:port (port 1 to 65535)")
            }
        }
        let chroot = chroot == "/" ? nil : chroot
        if let chroot {
            if let fault = NodePath.fault(chroot, isSequential: false) {
                throw StoreError(.badArguments, path: chroot, message: "chroot: \(fault)")
            }
        }
        func inRange(_ value: Int, _ range: ClosedRange<Int>, _ name: String) throws {
            guard range.contains(value) else {
                throw StoreError(
                    .badArguments,
                    message: "\(name): \(value); expected \(range.lowerBound) to \(range.upperBound)")
            }
        }
        try inRange(
            sessionTimeoutMilliseconds, ZooKeeperLimits.sessionTimeoutMillisecondsRange, "sessionTimeoutMilliseconds")
        try inRange(
            operationTimeoutMilliseconds, ZooKeeperLimits.operationTimeoutMillisecondsRange,
            "operationTimeoutMilliseconds")
        try inRange(maxInFlight, ZooKeeperLimits.maxInFlightRange, "maxInFlight")
        try inRange(authentication.count, 0...ZooKeeperLimits.credentialsMax, "authentication")
        if tls != nil { try ZooKeeperTLS.requireAvailable() }
        self.servers = servers
        self.chroot = chroot
        self.sessionTimeoutMilliseconds = sessionTimeoutMilliseconds
        self.operationTimeoutMilliseconds = operationTimeoutMilliseconds
        self.authentication = authentication
        self.maxInFlight = maxInFlight
        self.tls = tls
    }

    /// From ZooKeeper's usual form `host:port,host:port/chroot`.
    public init(
        connectString: String,
        sessionTimeoutMilliseconds: Int = ZooKeeperLimits.sessionTimeoutMillisecondsDefault,
        operationTimeoutMilliseconds: Int = ZooKeeperLimits.operationTimeoutMillisecondsDefault,
        authentication: [ZooKeeperCredential] = [], maxInFlight: Int = ZooKeeperLimits.maxInFlightDefault,
        tls: ZooKeeperTLS? = nil
    ) throws {
        let slash = connectString.firstIndex(of: "/") ?? connectString.endIndex
        let chroot = String(connectString[slash...])
        try self.init(
            servers: connectString[..<slash].split(separator: ",", omittingEmptySubsequences: false).map {
                $0.drop(while: { $0 == " " }).description
            },
            chroot: chroot.isEmpty ? nil : chroot, sessionTimeoutMilliseconds: sessionTimeoutMilliseconds,
            operationTimeoutMilliseconds: operationTimeoutMilliseconds, authentication: authentication,
            maxInFlight: maxInFlight, tls: tls)
    }

    /// What the C library takes. It splits at the last colon and passes the rest to the resolver, which knows no
    /// brackets.
    var libraryConnectString: String {
        servers.map { $0.filter { $0 != "[" && $0 != "]" } }.joined(separator: ",")
    }

    private static func isServer(_ text: String) -> Bool {
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), port > 0 else {
            return false
        }
        let host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            return host.count > 2 && host.dropFirst().dropLast().utf8.allSatisfy { $0 == 0x3a || $0.isHexDigitOrDot }
        }
        return !host.isEmpty && host.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && !"/,:[]@".utf8.contains($0) }
    }
}

extension UInt8 {
    fileprivate var isHexDigitOrDot: Bool {
        switch self {
        case 0x30...0x39, 0x41...0x46, 0x61...0x66, 0x2e, 0x25: true
        default: false
        }
    }
}
