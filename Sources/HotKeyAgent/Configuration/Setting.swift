/// One setting of the agent: its names in the three places where it can be set, its meaning, its default.
///
/// ``all`` is the only list of settings. The configuration file's fields, the flags, the environment variables, their
/// help and the table in `docs/configuration.md` are all made from it.
public struct Setting: Sendable {
    /// In the configuration file, dots between a mapping and its field: `zookeeper.sessionTimeoutMilliseconds`.
    public let name: String
    /// On the command line, after `--`: made from the name, unless the table gives a shorter one.
    public let flag: String
    /// As help calls the value: `HOST:PORT`.
    public let placeholder: String
    /// What a value must be; completes "expected …".
    public let expected: String
    public let help: String
    public let isRequired: Bool
    /// As documentation states it; empty where there is none.
    public let defaultDescription: String
    /// The variable in the environment: made from the flag.
    public var variable: String { Self.variablePrefix + flag.uppercased().replacing("-", with: "_") }

    /// All variables of the project begin with it.
    public static let variablePrefix = "HOTKEY_"

    /// On the command line it stands without a value, which is true.
    public var isSwitch: Bool { placeholder.isEmpty }

    let group: any SettingGroup.Type
    /// The name within its group.
    let field: String
    /// The file that this setting names holds a secret.
    let namesSecret: Bool
    /// False, and nothing is changed, when the value is not as `expected`.
    let set: @Sendable (SettingValue, inout AgentConfiguration) -> Bool
    let value: @Sendable (AgentConfiguration) -> SettingValue

    init<Group: SettingGroup, Value>(
        _ field: String, _ path: SettingPath<Group, Value>, _ type: SettingType<Value>,
        flag: String? = nil, isRequired: Bool = false, namesSecret: Bool = false, default note: String? = nil,
        _ help: String
    ) {
        let place = Group.place
        let read: @Sendable (AgentConfiguration) -> SettingValue = { type.show($0[keyPath: place][keyPath: path]) }
        name = Group.name.isEmpty ? field : "\(Group.name).\(field)"
        self.flag = flag ?? Self.kebabCase(name)
        placeholder = type.placeholder
        expected = type.expected
        self.help = help
        self.isRequired = isRequired
        defaultDescription = note ?? (isRequired ? "" : read(AgentConfiguration()).description)
        group = Group.self
        self.field = field
        self.namesSecret = namesSecret
        set = { value, configuration in
            guard let parsed = type.parse(value) else { return false }
            configuration[keyPath: place][keyPath: path] = parsed
            return true
        }
        value = read
    }

    private static func kebabCase(_ name: String) -> String {
        var text = ""
        for character in name {
            if character == "." {
                text += "-"
            } else if character.isUppercase {
                text += "-" + character.lowercased()
            } else {
                text.append(character)
            }
        }
        return text
    }
}

/// A part of the configuration that is a mapping of its own in the file.
protocol SettingGroup: Sendable {
    /// Its field in the file; empty for the file itself.
    static var name: String { get }
    static var place: SettingPath<AgentConfiguration, Self> { get }
}

extension AgentConfiguration: SettingGroup {
    static let name = ""
    static var place: SettingPath<Self, Self> { \.self }

    /// Nothing but defaults: what is required is not there yet.
    init() { self.init(app: "", zookeeperServers: []) }
}

extension AgentConfiguration.ZooKeeper: SettingGroup {
    static let name = "zookeeper"
    static var place: SettingPath<AgentConfiguration, Self> { \.zookeeper }
}

extension AgentConfiguration.ListenSecurity: SettingGroup {
    static let name = "listenSecurity"
    static var place: SettingPath<AgentConfiguration, Self> { \.listenSecurity }
}

extension AgentConfiguration.PeerSecurity: SettingGroup {
    static let name = "peerSecurity"
    static var place: SettingPath<AgentConfiguration, Self> { \.peerSecurity }
}

extension AgentConfiguration.Upstream: SettingGroup {
    static let name = "upstream"
    static var place: SettingPath<AgentConfiguration, Self> { \.upstream }
}

extension AgentConfiguration.Limits: SettingGroup {
    static let name = "limits"
    static var place: SettingPath<AgentConfiguration, Self> { \.limits }
}

extension AgentConfiguration.LocalCache: SettingGroup {
    static let name = "localCache"
    static var place: SettingPath<AgentConfiguration, Self> { \.localCache }
}

extension AgentConfiguration.Detection: SettingGroup {
    static let name = "detection"
    static var place: SettingPath<AgentConfiguration, Self> { \.detection }
}

extension AgentConfiguration.Scan: SettingGroup {
    static let name = "scan"
    static var place: SettingPath<AgentConfiguration, Self> { \.scan }
}

extension AgentConfiguration.Breaker: SettingGroup {
    static let name = "breaker"
    static var place: SettingPath<AgentConfiguration, Self> { \.breaker }
}

extension AgentConfiguration.Log: SettingGroup {
    static let name = "log"
    static var place: SettingPath<AgentConfiguration, Self> { \.log }
}

/// From a group to one of its values.
typealias SettingPath<Group, Value> = any WritableKeyPath<Group, Value> & Sendable
