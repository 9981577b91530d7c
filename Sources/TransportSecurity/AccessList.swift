/// Who may use a listener: users and the digests of their passwords. A user may have several passwords, so that a new one can be
/// handed out before the old one is taken back.
public struct AccessList: Sendable, CustomReflectable {
    public static let defaultUser = "default"
    private var digests: [[UInt8]: [SHA256Digest]] = [:]

    public var userCount: Int { digests.count }
    /// Shows nothing: digests of poor passwords can be guessed.
    public var customMirror: Mirror { Mirror(self, children: []) }

    public func hasUser(_ user: [UInt8]) -> Bool { digests[user] != nil }

    /// How long it takes tells nothing of the password, nor whether there is such a user.
    public func accepts(user: some Collection<UInt8>, password: some Collection<UInt8>) -> Bool {
        guard password.count <= TransportLimits.passwordBytesMax else { return false }
        let presented = SHA256Digest(of: password)
        guard let known = digests[Array(user)] else {
            _ = presented.matches(presented)
            return false
        }
        return known.reduce(false) { found, digest in digest.matches(presented) || found }
    }

    /// From a file of passwords of the user `default`, and a file of users; either may be missing.
    public static func reloaded(
        passwordFile: String?, usersFile: String?, names: (password: String, users: String)
    ) throws(TransportSecurityError) -> ReloadedFiles<AccessList> {
        try ReloadedFiles(name: names.users, paths: [passwordFile, usersFile].compactMap { $0 }) {
            () throws(TransportSecurityError) in
            var list = AccessList()
            if let passwordFile {
                let lines = try SecretLines(passwordFile, name: names.password)
                for line in lines.all { try list.add(Array(defaultUser.utf8), line.bytes, in: lines, at: line.number) }
            }
            if let usersFile {
                let lines = try SecretLines(usersFile, name: names.users)
                for line in lines.all where line.bytes.first != UInt8(ascii: "#") {
                    let (user, password) = try lines.login(line)
                    try list.add(user, password, in: lines, at: line.number)
                }
            }
            return list
        }
    }

    init() {}

    /// - Parameter mayBeDigest: whether `#` and 64 hexadecimal digits are a password's SHA-256, as in Redis's ACL files.
    mutating func add(
        _ user: [UInt8], _ password: [UInt8], in lines: SecretLines, at number: Int, mayBeDigest: Bool = true
    ) throws(TransportSecurityError) {
        guard (1...TransportLimits.passwordBytesMax).contains(password.count) else {
            throw lines.problem(at: number, "expected a password of 1 to \(TransportLimits.passwordBytesMax) bytes")
        }
        var digest = SHA256Digest(of: password)
        if mayBeDigest, password.first == UInt8(ascii: "#"), let given = SHA256Digest(hexadecimal: password.dropFirst())
        {
            digest = given
        }
        digests[user, default: []].append(digest)
    }
}

/// The lines of a file that holds secrets: empty ones are left out, errors name the line and never show it.
struct SecretLines {
    struct Line {
        var number: Int
        var bytes: [UInt8]
    }
    private(set) var all: [Line] = []
    private let place: String

    init(_ path: String, name: String) throws(TransportSecurityError) {
        place = "\(name) \(path)"
        let bytes = try ProtectedFile.read(
            path, name: name, bytesMax: TransportLimits.secretFileBytesMax, isSecret: true)
        var number = 0
        for line in bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false) {
            number += 1
            var line = Array(line)
            if line.last == UInt8(ascii: "\r") { line.removeLast() }
            if !line.isEmpty { all.append(Line(number: number, bytes: line)) }
        }
        guard !all.isEmpty else { throw .init(.badFile, "\(place): expected at least one line, found none") }
        guard all.count <= TransportLimits.secretsMax else {
            throw .init(.badFile, "\(place): expected at most \(TransportLimits.secretsMax) lines, found more")
        }
    }

    func problem(at line: Int, _ expectation: String) -> TransportSecurityError {
        .init(.badFile, "\(place):\(line): \(expectation), found something else")
    }

    /// `USER:PASSWORD`
    func login(_ line: Line) throws(TransportSecurityError) -> (user: [UInt8], password: [UInt8]) {
        guard let colon = line.bytes.firstIndex(of: UInt8(ascii: ":")),
            (1...TransportLimits.userBytesMax).contains(colon), colon + 1 < line.bytes.count,
            line.bytes[..<colon].allSatisfy({ $0 > 0x20 && $0 < 0x7f }),
            line.bytes.count - colon - 1 <= TransportLimits.passwordBytesMax
        else {
            throw problem(
                at: line.number,
                "expected USER:PASSWORD, a user of 1 to \(TransportLimits.userBytesMax) printable characters without a blank "
                    + "or colon, a password of 1 to \(TransportLimits.passwordBytesMax) bytes")
        }
        return (Array(line.bytes[..<colon]), Array(line.bytes[(colon + 1)...]))
    }
}
