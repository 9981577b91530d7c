/// Rules for paths, checked before anything reaches C: the library answers a bad path with a catch-all (P25), and some
/// paths that it lets through are refused by the server.
enum NodePath {
    /// Says what is wrong with the path, `nil` when nothing is. `isSequential`: the server appends ten digits, so
    /// that a trailing slash makes a name of digits only.
    static func fault(_ path: String, isSequential: Bool) -> String? {
        guard path.utf8.count <= ZooKeeperLimits.pathBytesMax else {
            return "the path has \(path.utf8.count) bytes; at most \(ZooKeeperLimits.pathBytesMax) are allowed"
        }
        guard path.utf8.first == UInt8(ascii: "/") else { return "a path must start with '/'" }
        if path == "/" { return nil }
        for scalar in path.unicodeScalars where isRefused(scalar) {
            return "the path holds the character U+\(String(scalar.value, radix: 16, uppercase: true)), "
                + "which ZooKeeper does not allow"
        }
        let names = path.utf8.dropFirst().split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        for (index, name) in names.enumerated() {
            let isLast = index == names.count - 1
            if name.isEmpty {
                if isLast && isSequential { continue }
                return isLast ? "a path must not end with '/'" : "the path has an empty name ('//')"
            }
            let isRelative = name.elementsEqual(".".utf8) || name.elementsEqual("..".utf8)
            if isRelative && !(isLast && isSequential) { return "the path has a relative name ('.' or '..')" }
        }
        return nil
    }

    /// The characters that the server's own check refuses. It reads UTF-16, so everything beyond U+D7FF's
    /// neighbourhood that needs a surrogate falls as well.
    private static func isRefused(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.value {
        case 0x00...0x1f, 0x7f...0x9f, 0xd800...0xf8ff, 0xfff0...: true
        default: false
        }
    }

    /// The path as the server knows it.
    static func absolute(_ path: String, chroot: String?) -> String {
        guard let chroot else { return path }
        return path == "/" ? chroot : chroot + path
    }

    /// The path as the caller knows it.
    static func relative(_ path: String, chroot: String?) -> String {
        guard let chroot, path.hasPrefix(chroot) else { return path }
        let rest = path.dropFirst(chroot.count)
        return rest.isEmpty ? "/" : String(rest)
    }

    /// Parent and name of a path that has been checked.
    static func split(_ path: String) -> (parent: String, name: String) {
        guard let slash = path.lastIndex(of: "/") else { return ("/", path) }
        let parent = path[..<slash]
        return (parent.isEmpty ? "/" : String(parent), String(path[path.index(after: slash)...]))
    }
}
