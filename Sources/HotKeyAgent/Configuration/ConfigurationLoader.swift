import HotKeyRegistry
import StrictCoding
import ZooKeeper

/// Makes an agent's configuration from its sources.
///
/// Precedence: a flag, then an environment variable, then the configuration file, then the default. Each source is
/// checked whole, also where another one overrides it. A variable that is set to nothing counts as not set.
public struct ConfigurationLoader: Sendable {
    /// Values by flag, without the dashes: ``Setting/flag``.
    public var flags: [String: String]
    public var environment: [String: String]
    /// nil: the file that ``fileVariable`` names, or none.
    public var file: String?

    /// Whether the installed ZooKeeper library has TLS; tests say so instead of it.
    var isTLSAvailable = ZooKeeperTLS.isAvailable

    /// Names the configuration file where the command line does not.
    public static let fileVariable = Setting.variablePrefix + "CONFIG"

    /// - Parameters:
    ///   - flags: by ``Setting/flag``; a name that no setting has is a programming error.
    ///   - environment: of the process; variables that do not begin with ``Setting/variablePrefix`` are not looked at.
    public init(flags: [String: String] = [:], environment: [String: String] = [:], file: String? = nil) {
        self.flags = flags
        self.environment = environment
        self.file = file
    }

    /// Everything that is wrong is in the one error, except that a file is read up to its first mistake.
    public func load() throws(ConfigurationError) -> EffectiveConfiguration {
        var layers = Layers()
        readFile(into: &layers)
        // A file that was refused may hold what seems to be missing.
        let isFileRead = layers.problems.isEmpty
        readEnvironment(into: &layers)
        readFlags(into: &layers)
        let standalone = StandaloneSettings(layers)
        for setting in Setting.all
        where isFileRead && setting.isRequired && layers.origins[setting.name] == nil
            && !standalone.providesFor(setting)
        {
            layers.usageProblems.append(
                "\(setting.name): expected a value (\(setting.placeholder)), found none; set it with --\(setting.flag), "
                    + "\(setting.variable) or \(setting.name) in the configuration file")
        }
        try layers.throwProblems()
        standalone.check(&layers)
        checkTogether(&layers)
        readSecrets(into: &layers)
        readSecurityFiles(into: &layers)
        try layers.throwProblems()
        return EffectiveConfiguration(
            configuration: layers.configuration,
            settings: Setting.all.map { .init(setting: $0, origin: layers.origin(of: $0)) },
            warnings: layers.warnings)
    }

    private func readFile(into layers: inout Layers) {
        let named = environment[Self.fileVariable].flatMap { $0.isEmpty ? nil : $0 }
        guard let path = file ?? named else { return }
        do {
            let contents = try BoundedFile.read(path, bytesMax: ConfigurationLimits.fileBytesMax)
            for entry in try ConfigurationFile(contents.bytes, path: path).entries {
                layers.apply(entry.setting, entry.value, from: .file(path: path, line: entry.line))
            }
        } catch let error as DocumentError {
            layers.problems.append(error.description)
        } catch {
            layers.problems.append("\(error)")
        }
    }

    private func readEnvironment(into layers: inout Layers) {
        for setting in Setting.all {
            guard let text = environment[setting.variable], !text.isEmpty else { continue }
            layers.apply(setting, .word(text), from: .environment(variable: setting.variable))
        }
        let known = Set(Setting.all.map(\.variable) + [Self.fileVariable, DigestLogin.variable])
        for variable in environment.keys.sorted()
        where variable.hasPrefix(Setting.variablePrefix) && !known.contains(variable) {
            layers.warnings.append("the environment variable \(variable) has no effect: no setting is called so")
        }
    }

    private func readFlags(into layers: inout Layers) {
        for setting in Setting.all {
            guard let text = flags[setting.flag] else { continue }
            layers.apply(setting, .word(text), from: .flag(setting.flag))
        }
    }

    /// What single values cannot show.
    private func checkTogether(_ layers: inout Layers) {
        let configuration = layers.configuration
        let listeners: [(name: String, address: ListenAddress)] =
            (configuration.appListener.map { [("listen", $0)] } ?? [])
            + [("peer", .tcp(configuration.peer)), ("admin", configuration.admin)]
        for (index, listener) in listeners.enumerated() {
            if let other = listeners[..<index].first(where: { $0.address.collides(with: listener.address) }) {
                layers.refuse(listener.name, expected: "an address that \(other.name) does not have")
            }
        }
        checkAccess(&layers)
        if configuration.peer.isWildcard, configuration.advertisePeer == nil {
            layers.refuse(
                "peer", expected: "advertisePeer to be set beside it, or an address that other hosts can connect to")
        }
        if let reason = configuration.reasonNotToAdvertise(configuration.peer) {
            layers.refuse("peer", expected: "an address that other hosts can connect to", because: reason)
        }
        if let advertised = configuration.advertisePeer {
            if advertised.isWildcard {
                layers.refuse("advertisePeer", expected: "an address that other hosts can connect to")
            } else if advertised.isLoopback, !configuration.zookeeper.isOnThisHost {
                layers.warnings.append(
                    "advertisePeer is \(advertised), which only this host can connect to: right where all agents of the app "
                        + "run on this host; otherwise the traffic of the others is not seen")
            }
        }
        if configuration.localCache.capacityBytes > 0,
            configuration.localCache.valueBytesMax > configuration.localCache.capacityBytes
        {
            layers.refuse(
                "localCache.valueBytesMax",
                expected: "at most localCache.capacityBytes (\(configuration.localCache.capacityBytes))")
        }
        if configuration.breaker.openMillisecondsMax < configuration.breaker.openMilliseconds {
            layers.refuse(
                "breaker.openMillisecondsMax",
                expected: "at least breaker.openMilliseconds (\(configuration.breaker.openMilliseconds))")
        }
        if configuration.coordinator == .only, layers.origins["listen"] != nil {
            layers.warnings.append("listen has no effect: with coordinator only, no apps are served")
        }
        if configuration.stateDirectory == nil, !configuration.standalone {
            layers.warnings.append(
                "no stateDir: if this agent starts while ZooKeeper is down, it serves nothing until ZooKeeper is back")
        }
    }
}

/// The sources applied so far, a later one over an earlier one.
struct Layers {
    var configuration = AgentConfiguration()
    /// By setting; what is not there has its default.
    var origins: [String: SettingOrigin] = [:]
    var problems: [String] = []
    var usageProblems: [String] = []
    var warnings: [String] = []

    func origin(of setting: Setting) -> SettingOrigin { origins[setting.name] ?? .defaultValue }

    mutating func apply(_ setting: Setting, _ value: SettingValue, from origin: SettingOrigin) {
        // A setting that was set wrongly is set all the same: it is not missing as well.
        origins[setting.name] = origin
        if setting.set(value, &configuration) { return }
        let problem = ConfigurationError.problem(setting, from: origin, expected: setting.expected, found: value)
        if case .flag = origin { usageProblems.append(problem) } else { problems.append(problem) }
    }

    /// Refuses a value that is right by itself.
    mutating func refuse(_ name: String, expected: String, because reason: String? = nil) {
        for setting in Setting.all where setting.name == name {
            let problem = ConfigurationError.problem(
                setting, from: origin(of: setting), expected: expected, found: setting.value(configuration))
            problems.append(problem + (reason.map { ": \($0)" } ?? ""))
        }
    }

    func throwProblems() throws(ConfigurationError) {
        if !usageProblems.isEmpty { throw ConfigurationError(.usage, usageProblems + problems) }
        if !problems.isEmpty { throw ConfigurationError(.invalid, problems) }
    }
}
