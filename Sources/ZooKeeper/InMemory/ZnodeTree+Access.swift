import Foundation

/// As whom a session has authenticated.
public struct ZnodeIdentity: Sendable, Hashable {
    public var scheme: String
    public var identity: String

    public init(scheme: String, identity: String) {
        self.scheme = scheme
        self.identity = identity
    }

    static let digestScheme = "digest"

    /// The identity that a credential proves, `nil` for a scheme that the in-memory store does not know.
    public init?(_ credential: ZooKeeperCredential) {
        guard credential.scheme == Self.digestScheme else { return nil }
        self.init(
            scheme: Self.digestScheme, identity: AccessControl.digestIdentity(userAndPassword: credential.secret))
    }
}

extension AccessControl {
    /// What stands in an access control list for a user of the `digest` scheme: `user:` and the Base64 of the SHA-1 of
    /// `user:password`. It tells nobody the password, but who guesses a weak one can check the guess against it.
    public static func digestIdentity(user: String, password: String) -> String {
        digestIdentity(userAndPassword: Array("\(user):\(password)".utf8))
    }

    static func digestIdentity(userAndPassword: [UInt8]) -> String {
        let user = userAndPassword.prefix { $0 != UInt8(ascii: ":") }
        return String(decoding: user, as: UTF8.self) + ":" + Data(SHA1.digest(userAndPassword)).base64EncodedString()
    }
}

extension ZnodeTree {
    /// ZooKeeper's codes, so that the in-memory store's errors are those of the real one.
    enum Refusal: Int32 {
        case connectionLoss = -4
        case badArguments = -8
        case noNode = -101
        case noAuthentication = -102
        case badVersion = -103
        case noChildrenForEphemerals = -108
        case nodeExists = -110
        case notEmpty = -111
        case sessionExpired = -112
        case invalidACL = -114
        case authenticationFailed = -115

        func error(_ path: String?) -> StoreError {
            let failure = CallFailure(libraryCode: rawValue)
            return StoreError(failure.code, path: path, rawCode: rawValue, message: failure.message)
        }
    }

    func refusal(_ refusal: Refusal, _ path: String?) -> StoreError { refusal.error(path) }

    /// One matching entry that grants any of the permissions is enough.
    func allows(_ any: AccessControl.Permissions, _ acl: [AccessControl], _ identities: [ZnodeIdentity]) -> Bool {
        acl.contains { entry in
            guard !entry.permissions.isDisjoint(with: any) else { return false }
            if entry.scheme == "world" { return entry.identity == "anyone" }
            return identities.contains { $0.scheme == entry.scheme && $0.identity == entry.identity }
        }
    }

    func require(
        _ any: AccessControl.Permissions, _ acl: [AccessControl], _ identities: [ZnodeIdentity], _ path: String
    ) throws(StoreError) {
        guard allows(any, acl, identities) else { throw refusal(.noAuthentication, path) }
    }

    /// What is stored for a list that was asked for: `auth` becomes the session's own identities, duplicates go,
    /// anything that no scheme understands is refused.
    func resolve(
        _ acl: [AccessControl], _ identities: [ZnodeIdentity], _ path: String
    ) throws(StoreError) -> [AccessControl] {
        var resolved: [AccessControl] = []
        func add(_ entry: AccessControl) {
            if !resolved.contains(entry) { resolved.append(entry) }
        }
        for entry in acl {
            switch entry.scheme {
            case "world" where entry.identity == "anyone": add(entry)
            case "auth":
                guard !identities.isEmpty else { throw refusal(.invalidACL, path) }
                for identity in identities {
                    add(
                        AccessControl(
                            permissions: entry.permissions, scheme: identity.scheme, identity: identity.identity))
                }
            case ZnodeIdentity.digestScheme:
                let parts = entry.identity.split(separator: ":", omittingEmptySubsequences: false)
                guard parts.count == 2 else { throw refusal(.invalidACL, path) }
                add(entry)
            default: throw refusal(.invalidACL, path)
            }
        }
        guard !resolved.isEmpty else { throw refusal(.invalidACL, path) }
        return resolved
    }
}

/// SHA-1 (FIPS 180-4), which ZooKeeper's `digest` scheme prescribes. For nothing else: it does not resist collisions.
enum SHA1 {
    static func digest(_ message: [UInt8]) -> [UInt8] {
        var state: [UInt32] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0]
        var padded = message + [0x80]
        padded += [UInt8](repeating: 0, count: (120 - padded.count % 64) % 64)
        let bits = UInt64(message.count) * 8
        padded += (0..<8).map { UInt8(truncatingIfNeeded: bits >> UInt64(56 - 8 * $0)) }
        for start in stride(from: 0, to: padded.count, by: 64) {
            var words = (0..<16).map { word in
                (0..<4).reduce(UInt32(0)) { $0 << 8 | UInt32(padded[start + 4 * word + $1]) }
            }
            for index in 16..<80 {
                words.append(
                    rotate(words[index - 3] ^ words[index - 8] ^ words[index - 14] ^ words[index - 16], 1))
            }
            var (a, b, c, d, e) = (state[0], state[1], state[2], state[3], state[4])
            for (index, word) in words.enumerated() {
                let (mix, constant): (UInt32, UInt32) =
                    switch index {
                    case ..<20: (b & c | ~b & d, 0x5a82_7999)
                    case ..<40: (b ^ c ^ d, 0x6ed9_eba1)
                    case ..<60: (b & c | b & d | c & d, 0x8f1b_bcdc)
                    default: (b ^ c ^ d, 0xca62_c1d6)
                    }
                let next = rotate(a, 5) &+ mix &+ e &+ constant &+ word
                (a, b, c, d, e) = (next, a, rotate(b, 30), c, d)
            }
            for (index, value) in [a, b, c, d, e].enumerated() { state[index] &+= value }
        }
        return state.flatMap { word in (0..<4).map { UInt8(truncatingIfNeeded: word >> UInt32(24 - 8 * $0)) } }
    }

    private static func rotate(_ word: UInt32, _ count: UInt32) -> UInt32 { word << count | word >> (32 - count) }
}
