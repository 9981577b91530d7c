import Foundation
import Glibc

/// A directory of its own, removed with everything in it when this object goes.
///
/// Its path is short, so that Unix sockets (at most 107 bytes) fit in it.
public final class TemporaryDirectory: Sendable {
    public let path: String

    public init(prefix: String = "hotkey") throws {
        var template = Array("/tmp/\(prefix)-XXXXXX".utf8CString)
        guard let made = mkdtemp(&template) else {
            throw TestSupportError(.system, "mkdtemp /tmp/\(prefix)-XXXXXX: \(String(cString: strerror(errno)))")
        }
        path = String(cString: made)
    }

    /// The path of a name in this directory.
    public func file(_ name: String) -> String { "\(path)/\(name)" }

    /// Writes a file into this directory and returns its path.
    @discardableResult
    public func write(_ text: String, to name: String) throws -> String {
        let target = file(name)
        try Data(text.utf8).write(to: URL(fileURLWithPath: target))
        return target
    }

    /// The same for a file that its owner alone may read.
    @discardableResult
    public func writeSecret(_ text: String, to name: String) throws -> String {
        let target = try write(text, to: name)
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: target)
        return target
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }
}
