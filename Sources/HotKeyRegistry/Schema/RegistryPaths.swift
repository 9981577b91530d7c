/// Where an app's znodes are. Nothing outside this file spells a path.
public struct RegistryPaths: Sendable, Hashable {
    /// The znode above all apps where nobody says otherwise.
    public static let defaultRoot = "/hotkeys"

    public let root: String
    public let app: AppName

    /// - Parameters:
    ///   - root: an absolute path without a slash at its end.
    ///   - app: 1 to 64 letters, digits, `.`, `_` or `-`.
    /// - Throws: ``RegistryError/Code/badArgument``.
    public init(root: String = defaultRoot, app: String) throws(RegistryError) {
        try self.init(root: root, app: AppName(app))
    }

    public init(root: String = defaultRoot, app: AppName) throws(RegistryError) {
        let parts = root.split(separator: "/", omittingEmptySubsequences: false).dropFirst()
        let isValid =
            root.utf8.first == UInt8(ascii: "/") && root.utf8.count <= RegistryLimits.rootBytesMax
            && parts.allSatisfy { ZnodeName.isValid($0, bytesMax: RegistryLimits.rootBytesMax) }
        guard isValid, parts.first != "zookeeper" else {
            throw RegistryError(
                .badArgument,
                "the registry's root \"\(root)\" is not usable: expected an absolute path such as \(Self.defaultRoot), of letters, "
                    + "digits, '.', '_', '-' and ':', at most \(RegistryLimits.rootBytesMax) bytes, not under /zookeeper"
            )
        }
        self.root = root
        self.app = app
    }

    public var appNode: String { "\(root)/\(app)" }
    public var access: String { "\(appNode)/access" }
    public var control: String { "\(appNode)/control" }
    public var rules: String { "\(appNode)/rules" }
    public var pins: String { "\(appNode)/pins" }
    public var topology: String { "\(appNode)/topology" }
    public var hot: String { "\(appNode)/hot" }
    public var sources: String { "\(appNode)/sources" }
    public var leader: String { "\(appNode)/leader" }
    public var agents: String { "\(appNode)/agents" }

    /// `hot/00` to `hot/3f`.
    public func bucket(_ index: Int) -> String {
        precondition((0..<RegistryLimits.bucketCount).contains(index), "no bucket has the number \(index)")
        return "\(hot)/\(Self.bucketName(index))"
    }

    static func bucketName(_ index: Int) -> String {
        let digits = String(index, radix: 16)
        return (digits.count == 1 ? "0" : "") + digits
    }

    public func source(_ name: AgentID) -> String { "\(sources)/\(name)" }
    public func agent(_ id: AgentID) -> String { "\(agents)/\(id)" }
    public func candidate(_ name: String) -> String { "\(leader)/\(name)" }

    /// The root and what stands above it, the outermost first.
    var rootAndParents: [String] {
        root.split(separator: "/").reduce(into: []) { paths, part in paths.append("\(paths.last ?? "")/\(part)") }
    }
}

/// The name of one app: one cache cluster, one set of rules, one hot set.
public struct AppName: Sendable, Hashable, CustomStringConvertible {
    public let description: String

    public init(_ name: String) throws(RegistryError) {
        guard ZnodeName.isValid(name, bytesMax: RegistryLimits.appNameBytesMax), !name.contains(":") else {
            throw RegistryError(
                .badArgument,
                "\"\(name)\" cannot be an app's name: expected 1 to \(RegistryLimits.appNameBytesMax) letters, digits, "
                    + "'.', '_' or '-'")
        }
        description = name
    }
}

/// The name under which an agent (or a source) stands in the registry: a host name, usually.
public struct AgentID: Sendable, Hashable, Comparable, CustomStringConvertible {
    public let description: String

    /// 1 to 128 letters, digits, `.`, `_`, `-` or `:`. Errors: ``RegistryError/Code/badArgument``.
    public init(_ name: String) throws(RegistryError) {
        guard ZnodeName.isValid(name, bytesMax: RegistryLimits.agentIDBytesMax) else {
            throw RegistryError(
                .badArgument,
                "\"\(name)\" cannot be an id: expected 1 to \(RegistryLimits.agentIDBytesMax) letters, digits, '.', "
                    + "'_', '-' or ':'")
        }
        description = name
    }

    public static func < (left: AgentID, right: AgentID) -> Bool { left.description < right.description }
}

/// What may stand between two slashes: far less than ZooKeeper allows, so that no tool on the way needs quoting.
enum ZnodeName {
    static func isValid(_ name: some StringProtocol, bytesMax: Int) -> Bool {
        (1...bytesMax).contains(name.utf8.count) && name != "." && name != ".."
            && name.utf8.allSatisfy { byte in
                switch byte {
                case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"),
                    UInt8(ascii: ":"):
                    true
                default: false
                }
            }
    }
}
