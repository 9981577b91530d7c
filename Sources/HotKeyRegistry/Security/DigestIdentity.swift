import Foundation
import StrictCoding
import ZooKeeper

/// Who a session is under ZooKeeper's `digest` scheme, as access control lists name it: the user, a colon, and the Base64
/// of the SHA-1 of `user:password`.
public struct DigestIdentity: Sendable, Hashable, Codable, CustomStringConvertible {
    public let description: String
    public var user: String { String(description.prefix { $0 != ":" }) }

    static let scheme = "digest"
    /// A server that is given such a user's password at its start (`zookeeper.DigestAuthenticationProvider.superDigest`)
    /// lets it do everything.
    private static let superUser = "super"
    private static let hashBytes = 20

    /// - Throws: ``RegistryError/Code/badArgument`` for anything else.
    public init(_ text: String) throws(RegistryError) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false)
        guard parts.count == 2, Self.isUser(parts[0]), Data(base64Encoded: String(parts[1]))?.count == Self.hashBytes
        else {
            throw RegistryError(
                .badArgument,
                "expected USER:HASH as `hkctl acl digest` prints it (the Base64 of a SHA-1), found something else")
        }
        description = text
    }

    /// Of a user and a password.
    public init(user: String, password: String) throws(RegistryError) {
        guard Self.isUser(user[...]) else {
            throw RegistryError(.badArgument, "the user must be 1 to 128 printable characters without a colon")
        }
        description = AccessControl.digestIdentity(user: user, password: password)
    }

    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        do {
            try self.init(text)
        } catch {
            // What stands there may be a password: it is not repeated.
            throw FieldProblem(
                expected: "USER:HASH as `hkctl acl digest` prints it (the Base64 of a SHA-1)", found: "something else")
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }

    public var isSuperUser: Bool { user == Self.superUser }

    func entry(_ permissions: AccessControl.Permissions) -> AccessControl {
        AccessControl(permissions: permissions, scheme: Self.scheme, identity: description)
    }

    private static func isUser(_ text: Substring) -> Bool {
        (1...RegistryLimits.authorBytesMax).contains(text.utf8.count) && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }
    }
}
