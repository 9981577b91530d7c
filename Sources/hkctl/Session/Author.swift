import Foundation
import Glibc
import HotKeyRegistry

/// Who signs a change.
enum Author {
    static var current: String {
        if let given = GlobalOptions.environment("HOTKEY_AUTHOR") { return given }
        var text = "\(userName)@\(hostName)"
        // A host's name may be long; the one that someone chose is refused instead of cut.
        while text.utf8.count > RegistryLimits.authorBytesMax { text.removeLast() }
        return text
    }

    private static var userName: String {
        guard let entry = getpwuid(geteuid()), let name = entry.pointee.pw_name else { return "uid-\(geteuid())" }
        return String(cString: name)
    }

    private static var hostName: String {
        var buffer = [CChar](repeating: 0, count: 256)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "unknown-host" }
        return String(decoding: buffer.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
