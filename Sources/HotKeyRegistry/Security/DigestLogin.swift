import Glibc
public import ZooKeeper

/// A user and its password for ZooKeeper's `digest` scheme, and where they came from. The password is never shown: not
/// by errors, dumps or logs.
public struct DigestLogin: Sendable, Hashable {
    public let identity: DigestIdentity
    public let credential: ZooKeeperCredential
    /// `--zookeeper-digest-file /etc/…`, for people.
    public let source: String
    public var user: String { identity.user }

    /// The environment variable that may hold `USER:PASSWORD` itself.
    public static let variable = "HOTKEY_ZOOKEEPER_AUTH"

    /// From one line `USER:PASSWORD`; an end of line behind it is no part of it. Errors do not repeat it.
    public init(line: [UInt8], source: String) throws(RegistryError) {
        let problem = RegistryError(.badArgument, "\(source): expected one line, USER:PASSWORD, found something else")
        let lines = line.split { $0 == 0x0a || $0 == 0x0d }
        guard lines.count == 1, let text = String(validating: lines[0], as: UTF8.self),
            let colon = text.firstIndex(of: ":"), text.index(after: colon) < text.endIndex
        else { throw problem }
        let user = String(text[..<colon])
        let password = String(text[text.index(after: colon)...])
        do {
            identity = try DigestIdentity(user: user, password: password)
            credential = try .digest(user: user, password: password)
        } catch {
            throw problem
        }
        self.source = source
    }

    /// From a file that users other than its owner and group can neither read nor write.
    /// - Parameter name: what errors call it, for example the flag that names it.
    public init(file path: String, name: String) throws(RegistryError) {
        try self.init(line: SecretFile.read(path, name: name), source: "\(name) \(path)")
    }
}

extension DigestLogin: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    public var description: String { "\(user) (\(source))" }
    public var debugDescription: String { description }
    public var customMirror: Mirror { Mirror(self, children: ["user": user, "source": source]) }
}

/// Reads a small file that holds a secret.
public enum SecretFile {
    /// - Throws: ``RegistryError/Code/badArgument`` when it cannot be read, is longer than a secret is, or is open to others.
    public static func read(_ path: String, name: String) throws(RegistryError) -> [UInt8] {
        func refuse(_ reason: String) -> RegistryError { RegistryError(.badArgument, "\(name) \(path): \(reason)") }
        // Without O_NONBLOCK, opening a FIFO that nobody writes would wait for ever.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else {
            throw refuse("expected a file that can be read: \(String(cString: strerror(errno)))")
        }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0, status.st_mode & S_IFMT == S_IFREG else {
            throw refuse("expected a file that can be read, found something else")
        }
        guard status.st_mode & (S_IROTH | S_IWOTH | S_IWGRP) == 0 else {
            let mode = String(status.st_mode & 0o777, radix: 8)
            throw refuse(
                "it holds a secret, and its mode 0\(mode) lets other users of this host read or change it: "
                    + "chmod u=rw,g=r,o= \(path)")
        }
        var bytes = [UInt8](repeating: 0, count: RegistryLimits.secretBytesMax + 1)
        var count = 0
        while count < bytes.count {
            let got = bytes.withUnsafeMutableBytes { Glibc.read(descriptor, $0.baseAddress! + count, $0.count - count) }
            if got < 0, errno == EINTR { continue }
            guard got >= 0 else { throw refuse("it cannot be read: \(String(cString: strerror(errno)))") }
            if got == 0 { break }
            count += got
        }
        guard count <= RegistryLimits.secretBytesMax else {
            throw refuse("expected at most \(RegistryLimits.secretBytesMax) bytes, found more")
        }
        return Array(bytes.prefix(count))
    }
}
