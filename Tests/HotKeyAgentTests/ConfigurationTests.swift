import HotKeyMitigation
import HotKeyTestSupport
import RedisProxy
import Testing

@testable import HotKeyAgent

/// What every setting has to be given for a configuration to be valid.
private let required = ["app": "shop", "zookeeper": "127.0.0.1:2181"]

/// A value for each setting that is not its default, as text and as YAML.
private func sample(_ setting: Setting, directory: TemporaryDirectory) throws -> (text: String, yaml: String) {
    func secret(_ line: String) throws -> (String, String) {
        let path = try directory.secret(line)
        return (path, path)
    }
    switch setting.name {
    case "app": return ("orders", "orders")
    case "id": return ("agent-7", "agent-7")
    case "coordinator": return ("never", "never")
    case "stateDir": return ("/var/lib/hotkey-test", "/var/lib/hotkey-test")
    case "listen": return ("unix:/run/hotkey.sock", "unix:/run/hotkey.sock")
    case "peer": return ("127.0.0.2:7000", "127.0.0.2:7000")
    case "advertisePeer": return ("agent-7.example:7000", "agent-7.example:7000")
    case "admin": return ("[::1]:8000", "'[::1]:8000'")
    case "zookeeper.servers": return ("127.0.0.2:2181,localhost:2182", "[127.0.0.2:2181, localhost:2182]")
    case "zookeeper.root": return ("/a/b", "/a/b")
    case "zookeeper.digestFile":
        return try secret("user:password")
    case "zookeeper.tlsPassphraseFile": return try secret("passphrase")
    case "zookeeper.tlsCaFile", "zookeeper.tlsCertificateFile", "zookeeper.tlsKeyFile":
        let path = try directory.write("", to: "own.pem")
        return (path, path)
    case "standalone": return ("true", "true")
    case "nodes": return ("a=h:1,b=h:2:3", "[a=h:1, b=h:2:3]")
    case "rulesFile":
        let path = try directory.write("schema: 1\nrules: []\n", to: "rules.yaml")
        return (path, path)
    case "listenMode": return ("0600", "'0600'")
    case "listenGroup": return ("root", "root")
    case "listenSecurity.passwordFile", "peerSecurity.passwordFile": return try secret("password")
    case "listenSecurity.usersFile", "upstream.credentialsFile": return try secret("user:password")
    case "upstream.trackHotKeys": return ("false", "false")
    case "listenSecurity.allowUnauthenticated", "peerSecurity.requireClientCertificates": return ("true", "true")
    case "peerSecurity.tlsServerName", "upstream.tlsServerName": return ("agents.example", "agents.example")
    case _ where setting.name.hasSuffix("KeyFile"): return (TestIdentity.shared.key, TestIdentity.shared.key)
    case _ where setting.name.hasSuffix("CertificateFile") || setting.name.hasSuffix("CaFile"):
        return (TestIdentity.shared.certificate, TestIdentity.shared.certificate)
    case "denyCommands": return ("flushall,config|set", "[flushall, config|set]")
    case "log.level": return ("debug", "debug")
    case "log.format": return ("json", "json")
    default:
        // All others are numbers, and one more than the default is within their bounds.
        let value = setting.value(AgentConfiguration())
        guard case .integer(let number) = value else {
            throw TestSupportError(.system, "\(setting.name) needs a sample value here")
        }
        return ("\(number + 1)", "\(number + 1)")
    }
}

/// A file that sets `setting` and nothing else.
private func yaml(_ setting: Setting, _ value: String) -> String {
    let parts = setting.name.split(separator: ".")
    return parts.count == 1 ? "\(setting.name): \(value)\n" : "\(parts[0]):\n  \(parts[1]): \(value)\n"
}

@Suite struct ConfigurationTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory(prefix: "cfg") }

    /// The setting's own source has to be the only one: what is required comes from elsewhere.
    private func others(than setting: Setting) throws -> [String: String] {
        let file = try directory.write("", to: "any.pem")
        let standalone = ["standalone": "true", "nodes": "a=h:9"]
        let tls = Dictionary(
            uniqueKeysWithValues: ["ca", "certificate", "key"].map { ("zookeeper-tls-\($0)-file", file) })
        // Some mean something only beside others.
        var others = required
        if ["standalone", "nodes", "rulesFile"].contains(setting.name) { others = standalone }
        if setting.name.hasPrefix("zookeeper.tls") { others.merge(tls) { $1 } }
        for group in ["listen", "peer", "upstream"]
        where setting.flag.hasPrefix(group + "-tls") || setting.name.hasPrefix(group + "Security.requireClient") {
            let identity = TestIdentity.shared
            others["\(group)-tls-certificate-file"] = identity.certificate
            others["\(group)-tls-key-file"] = identity.key
            if group != "listen" { others["\(group)-tls-ca-file"] = identity.certificate }
        }
        return others.filter { $0.key != setting.flag }
    }

    private func load(
        flags: [String: String] = [:], environment: [String: String] = [:], file: String? = nil
    ) throws -> EffectiveConfiguration {
        var loader = ConfigurationLoader(flags: flags, environment: environment, file: file)
        // What the installed library can do is not what this is about.
        loader.isTLSAvailable = true
        return try loader.load()
    }

    @Test(arguments: Setting.all.map(\.name))
    func isReachableInThreeWaysAndFlagBeatsEnvironmentBeatsFile(name: String) throws {
        let setting = try #require(Setting.all.first { $0.name == name })
        let (text, inYAML) = try sample(setting, directory: directory)
        let file = try directory.write(yaml(setting, inYAML), to: "one.yaml")
        // A value each source of lower precedence states, and that must not win.
        let standard = setting.isRequired ? required[setting.flag] : setting.value(AgentConfiguration()).description
        let line = name.contains(".") ? 2 : 1
        let rest = try others(than: setting)

        let fromFile = try load(flags: rest, file: file)
        let fromEnvironment = try load(flags: rest, environment: [setting.variable: text])
        let fromFlag = try load(flags: rest.merging([setting.flag: text]) { $1 })
        let secret = setting.namesSecret ? " (set)" : ""
        for (loaded, origin) in [
            (fromFile, SettingOrigin.file(path: file, line: line)),
            (fromEnvironment, .environment(variable: setting.variable)), (fromFlag, .flag(setting.flag)),
        ] {
            let shown = try #require(loaded.setting(name))
            #expect(shown.value == text + secret)
            #expect(shown.origin == origin)
            #expect(setting.value(loaded.configuration).description == text)
        }
        if !setting.isRequired {
            let shown = try #require(try load(flags: required).setting(name))
            #expect(shown.value == standard && shown.origin == .defaultValue)
            #expect(shown.value != text)
        }

        // The same setting in all three, with another value in each one that must lose. Optional paths have no default
        // to lose with: their own sample serves, and the origin tells who won.
        let losing = setting.isSwitch ? text : standard.flatMap { $0 == "none" ? nil : $0 } ?? text
        let all = try load(
            flags: rest.merging([setting.flag: text]) { $1 }, environment: [setting.variable: losing], file: file
        )
        #expect(try #require(all.setting(name)).origin == .flag(setting.flag))
        #expect(setting.value(all.configuration).description == text)
        let two = try load(flags: rest, environment: [setting.variable: losing], file: file)
        #expect(try #require(two.setting(name)).origin == .environment(variable: setting.variable))
        #expect(setting.value(two.configuration).description == losing)
    }

    @Test func namesAreUniqueAndThoseOfTheInterface() {
        #expect(Set(Setting.all.map(\.name)).count == Setting.all.count)
        #expect(Set(Setting.all.map(\.flag)).count == Setting.all.count)
        let promised = [
            "zookeeper", "root", "app", "id", "listen", "peer", "admin", "state-dir", "threads", "coordinator",
        ]
        #expect(Set(promised).isSubset(of: Setting.all.map(\.flag)))
        #expect(Set(["HOTKEY_ZOOKEEPER", "HOTKEY_ROOT", "HOTKEY_APP"]).isSubset(of: Setting.all.map(\.variable)))
        #expect(!Setting.all.contains { $0.variable == ConfigurationLoader.fileVariable })
    }

    @Test func environmentNamesTheFileAndTheCommandLineOverridesIt() throws {
        let one = try directory.write("app: one\n", to: "1.yaml")
        let two = try directory.write("app: two\n", to: "2.yaml")
        let environment = [ConfigurationLoader.fileVariable: one, "HOTKEY_ZOOKEEPER": "localhost:1"]
        #expect(try ConfigurationLoader(environment: environment).load().configuration.app == "one")
        #expect(try ConfigurationLoader(environment: environment, file: two).load().configuration.app == "two")
    }

    @Test func emptyVariablesAndFieldsWithoutValueCountAsNotSet() throws {
        let file = try directory.write("# nothing set\napp: shop\nupstream:\nlog:\n  level:\n", to: "empty.yaml")
        let loaded = try ConfigurationLoader(
            flags: ["zookeeper": "localhost:1"], environment: ["HOTKEY_APP": "", "HOTKEY_CONFIG": ""], file: file
        ).load()
        #expect(loaded.configuration.app == "shop")
        #expect(try #require(loaded.setting("log.level")).origin == .defaultValue)
        let comments = try directory.write("# only a comment\n", to: "comments.yaml")
        #expect(try ConfigurationLoader(flags: required, file: comments).load().configuration.app == "shop")
    }

    @Test func unknownVariablesAreWarnedOf() throws {
        let loaded = try ConfigurationLoader(
            flags: required, environment: ["HOTKEY_THREAD": "3", "PATH": "/bin"]
        ).load()
        let warnings = loaded.warnings.filter { $0.contains("environment variable") }
        #expect(warnings.count == 1 && warnings[0].contains("HOTKEY_THREAD "))
    }

    @Test func theDataPathGetsEveryValueItIsConfiguredWith() throws {
        // Every number one above its default, so that two values that change places are noticed.
        var flags = required
        for setting in Setting.all {
            if case .integer(let number) = setting.value(AgentConfiguration()) { flags[setting.flag] = "\(number + 1)" }
        }
        let configuration = try ConfigurationLoader(flags: flags).load().configuration
        let standard = AgentConfiguration().proxyConfiguration(hashSeed: 7, upstreamSecurity: UpstreamSecurity())
        let proxy = configuration.proxyConfiguration(hashSeed: 7, upstreamSecurity: UpstreamSecurity())
        #expect(proxy.hashSeed == 7)
        #expect(standard.tracksHotKeys)
        flags["upstream-track-hot-keys"] = "false"
        let untracked = try ConfigurationLoader(flags: flags).load().configuration
        #expect(!untracked.proxyConfiguration(hashSeed: 7, upstreamSecurity: UpstreamSecurity()).tracksHotKeys)
        #expect(proxy.connectionsPerNode == standard.connectionsPerNode + 1)
        #expect(proxy.requestTimeoutMilliseconds == standard.requestTimeoutMilliseconds + 1)
        #expect(proxy.connectTimeoutMilliseconds == standard.connectTimeoutMilliseconds + 1)
        #expect(proxy.requestBytesMax == standard.requestBytesMax + 1)
        #expect(proxy.heldRequestBytesMax == standard.heldRequestBytesMax + 1)
        #expect(proxy.pipelineDepthMax == standard.pipelineDepthMax + 1)
        #expect(proxy.outputBytesMax == standard.outputBytesMax + 1)
        #expect(proxy.clientsMax == standard.clientsMax + 1)
        #expect(proxy.handshakeMilliseconds == standard.handshakeMilliseconds + 1)
        #expect(proxy.cacheBytes == standard.cacheBytes + 1)
        #expect(proxy.cacheValueBytesMax == standard.cacheValueBytesMax + 1)
        #expect(proxy.cacheProbePermille == standard.cacheProbePermille + 1)
        #expect(proxy.breaker.minimumCalls == standard.breaker.minimumCalls + 1)
        #expect(proxy.breaker.consecutiveFailures == standard.breaker.consecutiveFailures + 1)
        #expect(proxy.breaker.halfOpenProbes == standard.breaker.halfOpenProbes + 1)
        #expect(abs(proxy.breaker.failureRatio - standard.breaker.failureRatio - 0.01) < 1e-9)
        #expect(abs(proxy.breaker.slowRatio - standard.breaker.slowRatio - 0.01) < 1e-9)
        let millisecond: UInt64 = 1_000_000
        #expect(proxy.breaker.windowNanoseconds == standard.breaker.windowNanoseconds + millisecond)
        #expect(proxy.breaker.slowCallNanoseconds == standard.breaker.slowCallNanoseconds + millisecond)
        #expect(proxy.breaker.openNanoseconds == standard.breaker.openNanoseconds + millisecond)
        #expect(proxy.breaker.openNanosecondsMax == standard.breaker.openNanosecondsMax + millisecond)
        #expect(
            proxy.breaker.halfOpenDeadlineNanoseconds == standard.breaker.halfOpenDeadlineNanoseconds + millisecond)
    }
}
