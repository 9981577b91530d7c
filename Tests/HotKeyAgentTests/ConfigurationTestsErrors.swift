import Foundation
import HotKeyRegistry
import HotKeyTestSupport
import Logging
import Testing

@testable import HotKeyAgent

@Suite struct ConfigurationErrorTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory(prefix: "cfg") }

    /// The error of a configuration that is otherwise right.
    private func failure(
        flags: [String: String] = [:], environment: [String: String] = [:], file text: String? = nil
    ) throws -> ConfigurationError {
        let flags = ["app": "shop", "zookeeper": "127.0.0.1:2181"].merging(flags) { $1 }
        let file = try text.map { try directory.write($0, to: "bad.yaml") }
        let loader = ConfigurationLoader(flags: flags, environment: environment, file: file)
        return try #require(throws: ConfigurationError.self) { _ = try loader.load() }
    }

    private func path() -> String { directory.file("bad.yaml") }

    @Test func anUnknownFieldIsRefusedWithItsLineAndTheNearestName() throws {
        let inGroup = try failure(file: "app: shop\nlimits:\n  clientMax: 12\n")
        #expect(inGroup.code == .invalid)
        #expect(inGroup.description.hasPrefix("\(path()):3:3: limits.clientMax: expected one of the fields "))
        #expect(inGroup.description.contains("did you mean clientsMax?"))
        let atTop = try failure(file: "ap: shop\n")
        #expect(atTop.description.contains("\(path()):1:1: ap: "))
        #expect(atTop.description.contains("did you mean app?"))
        // A group's field is not known at the top.
        #expect(try failure(file: "servers: [a:1]\n").description.contains("found an unknown field"))
    }

    @Test(arguments: [
        ("threads: \"4\"", "1:10: threads: expected an integer from 1 to 1024, found \"4\""),
        ("threads: 0", "1:10: threads: expected an integer from 1 to 1024, found 0"),
        ("threads: 1.5", "1:10: threads: expected an integer from 1 to 1024, found 1.5"),
        ("threads: {}", "1:10: threads: expected an integer from 1 to 1024, found a mapping"),
        ("app: 17", "1:6: app: expected 1 to 64 letters, digits, \".\", \"_\" or \"-\", found 17"),
        ("coordinator: true", "1:14: coordinator: expected auto, never or only, found true"),
        ("log: debug", "1:6: log: expected a mapping, found \"debug\""),
        ("zookeeper:\n  servers: [a:1, b]", "2:12: zookeeper.servers: expected HOST:PORT,"),
        ("zookeeper:\n  root: hotkeys", "2:9: zookeeper.root: expected the path of a znode"),
    ])
    func aWrongValueIsRefusedWithItsPlaceAndWhatWasExpected(text: String, expected: String) throws {
        let error = try failure(file: text + "\n")
        #expect(error.code == .invalid)
        #expect(error.problems.count == 1)
        #expect(error.description.hasPrefix("\(path()):\(expected)"), "\(error)")
    }

    @Test func aFileIsCheckedAlsoWhereAFlagOverridesIt() throws {
        #expect(try failure(flags: ["threads": "2"], file: "threads: none\n").code == .invalid)
    }

    @Test func allMistakesOfFlagsAndEnvironmentAreNamedAtOnce() throws {
        let error = try failure(
            flags: ["threads": "many", "listen": "unix:relative"], environment: ["HOTKEY_PEER": "7380"])
        #expect(error.code == .usage)
        #expect(error.problems.count == 3)
        #expect(error.description.contains("--threads: expected an integer from 1 to 1024, found \"many\""))
        #expect(error.description.contains("--listen: expected HOST:PORT"))
        #expect(error.description.contains("HOTKEY_PEER: expected HOST:PORT"))
        #expect(try failure(environment: ["HOTKEY_PEER": "7380"]).code == .invalid)
    }

    @Test func whatIsRequiredAndMissingSaysHowToSetIt() throws {
        let error = try #require(throws: ConfigurationError.self) { _ = try ConfigurationLoader().load() }
        #expect(error.code == .usage)
        #expect(error.problems.count == 2)
        #expect(error.description.contains("set it with --zookeeper, HOTKEY_ZOOKEEPER or zookeeper.servers"))
        // A file that could not be read may well set them.
        let unread = try #require(throws: ConfigurationError.self) {
            _ = try ConfigurationLoader(file: directory.file("missing.yaml")).load()
        }
        #expect(unread.code == .invalid && unread.problems.count == 1)
        #expect(unread.description.contains("missing.yaml: expected a file that can be read"))
    }

    @Test func whatIsNoFileOrTooLongIsRefused() throws {
        let loader = ConfigurationLoader(file: directory.path)
        let noFile = try #require(throws: ConfigurationError.self) { _ = try loader.load() }
        #expect(noFile.description.contains("expected a file"))
        let long = try failure(file: String(repeating: "#", count: ConfigurationLimits.fileBytesMax + 1))
        #expect(long.description.contains("expected at most \(ConfigurationLimits.fileBytesMax) bytes"))
    }

    @Test(arguments: [
        (
            ["listen": "127.0.0.1:7000", "peer": "127.0.0.1:7000"],
            "--peer: expected an address that listen does not have"
        ),
        (["peer": "0.0.0.0:8680"], "--peer: expected advertisePeer to be set beside it"),
        (["advertise-peer": "0.0.0.0:8680"], "--advertise-peer: expected an address that other hosts can connect to"),
        (["local-cache-capacity-bytes": "1024"], "localCache.valueBytesMax (default): expected at most"),
        (["breaker-open-milliseconds": "60000"], "breaker.openMillisecondsMax (default): expected at least"),
    ])
    func settingsThatContradictEachOtherAreRefused(flags: [String: String], expected: String) throws {
        let error = try failure(flags: flags)
        #expect(error.code == .invalid)
        #expect(error.description.contains(expected), "\(error)")
    }

    @Test(arguments: [
        "", "127.0.0.1:7380", "127.0.0.2:0", "localhost:7380", "Localhost:7380", "[::1]:7380", "[::ffff:127.1.2.3]:1",
    ])
    func aPeerThatOnlyThisHostReachesIsRefusedWhereOtherHostsMayAsk(peer: String) throws {
        let flags = peer.isEmpty ? [:] : ["peer": peer]
        let error = try failure(flags: flags.merging(["zookeeper": "127.0.0.1:2181,zk2:2181"]) { $1 })
        #expect(error.code == .invalid && error.problems.count == 1)
        let place = peer.isEmpty ? "peer (default)" : "--peer"
        let found = peer.isEmpty ? "127.0.0.1:7380" : peer
        #expect(
            error.description.hasPrefix(
                "\(place): expected an address that other hosts can connect to, found \"\(found)\": "),
            "\(error)")
        // What to do, the exception included.
        #expect(error.description.contains("Set peer to an address that the other hosts reach"))
        #expect(error.description.hasSuffix("say so with advertisePeer \(found)"))
    }

    @Test func whoRunsAnAgentWithoutTheProgramIsToldAsWell() throws {
        let configuration = AgentConfiguration(app: "shop", zookeeperServers: [HostPort(host: "zk1", port: 2181)])
        let error = try #require(throws: AgentError.self) {
            _ = try AgentRuntime(configuration: configuration, logger: Logger(label: "test"))
        }
        #expect(error.code == .unreachablePeer)
        #expect(error.message.contains("advertisePeer 127.0.0.1:7380"))
    }

    @Test(arguments: [
        ["zookeeper": "127.0.0.1:1,127.9.9.9:2,[::1]:3,LOCALHOST:4"],
        ["zookeeper": "zk1:2181", "peer": "10.0.0.5:7380"],
        ["zookeeper": "zk1:2181", "peer": "0.0.0.0:7380", "advertise-peer": "cache-1.example:7380"],
        ["zookeeper": "zk1:2181", "advertise-peer": "10.0.0.5:7380"],
        // Not of loopback, whatever it looks like.
        ["zookeeper": "zk1:2181", "peer": "127.example:7380"],
        ["zookeeper": "zk1:2181", "peer": "[::127.0.0.1]:7380"],
    ])
    func aPeerThatEveryAgentReachesIsAccepted(flags: [String: String]) throws {
        let password = try directory.secret("password")
        let all = ["app": "shop", "state-dir": "/x", "peer-password-file": password].merging(flags) { $1 }
        let warnings = try ConfigurationLoader(flags: all).load().warnings
        #expect(warnings.allSatisfy { $0.hasPrefix("peer takes passwords from other hosts") }, "\(warnings)")
    }

    @Test func anOperatorMaySayThatAllAgentsShareOneHost() throws {
        let flags = ["app": "shop", "state-dir": "/x", "zookeeper": "zk1:2181", "advertise-peer": "127.0.0.1:7380"]
        let loaded = try ConfigurationLoader(flags: flags).load()
        #expect(
            loaded.warnings.count == 1
                && loaded.warnings[0].hasPrefix("advertisePeer is 127.0.0.1:7380, which only this host"))
        let file = try directory.write(
            "app: shop\nstateDir: /x\nadvertisePeer: 127.0.0.1:7380\nzookeeper: {servers: [zk1:2181]}\n", to: "one.yaml"
        )
        #expect(try ConfigurationLoader(file: file).load().warnings.count == 1)
        // With ZooKeeper on this host there is nothing to warn of.
        #expect(
            try ConfigurationLoader(flags: flags.merging(["zookeeper": "localhost:1"]) { $1 }).load().warnings.isEmpty)
    }

    @Test func whatIsProbablyNotMeantIsWarnedOf() throws {
        func warnings(_ flags: [String: String]) throws -> [String] {
            let flags = ["app": "shop", "zookeeper": "localhost:1", "state-dir": "/var/lib/x"].merging(flags) { $1 }
            return try ConfigurationLoader(flags: flags).load().warnings
        }
        #expect(try warnings([:]).isEmpty)
        #expect(
            try warnings(["admin": "10.0.0.5:7380"]).contains { $0.hasPrefix("admin accepts connections from other") })
        #expect(try warnings(["coordinator": "only", "listen": "127.0.0.1:1"]).contains { $0.contains("no effect") })
        // What is not opened collides with nothing.
        #expect(try warnings(["coordinator": "only", "peer": "127.0.0.1:6380"]).isEmpty)
        let without = try ConfigurationLoader(flags: ["app": "shop", "zookeeper": "localhost:1"]).load()
        #expect(without.warnings.count == 1 && without.warnings[0].hasPrefix("no stateDir"))
        #expect(without.configuration.appListener == .tcp(HostPort(host: "127.0.0.1", port: 6380)))
        let only = try ConfigurationLoader(flags: ["app": "a", "zookeeper": "localhost:1", "coordinator": "only"])
            .load()
        #expect(only.configuration.appListener == nil)
    }

    @Test func aSecretIsReadFromItsFileAndNeverShown() throws {
        let password = "s3cr3t:with:colons"
        let file = try directory.write("ann:\(password)\n", to: "digest")
        try FileManager.default.setAttributes([.posixPermissions: 0o640], ofItemAtPath: file)
        let flags = ["app": "shop", "zookeeper": "localhost:1", "state-dir": "/x", "zookeeper-digest-file": file]
        let loaded = try ConfigurationLoader(flags: flags).load()
        let credentials = try #require(loaded.configuration.zookeeper.credentials)
        #expect(credentials.user == "ann")
        #expect(credentials.identity == (try DigestIdentity(user: "ann", password: password)))
        #expect(loaded.warnings.isEmpty)
        var dumped = ""
        dump(loaded.configuration, to: &dumped)
        for text in [loaded.table, try loaded.json(), dumped, "\(credentials)", String(reflecting: credentials)] {
            #expect(!text.contains("s3cr3t"))
        }
        #expect(loaded.table.contains("\(file) (set)"))

        try FileManager.default.setAttributes([.posixPermissions: 0o644], ofItemAtPath: file)
        #expect(try failure(flags: flags).description.contains("chmod u=rw,g=r,o= \(file)"))
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: file)

        for bad in ["s3cr3t\n", ":s3cr3t\n", "s3cr3t:\n", "ann:s3cr3t\nmore\n", ""] {
            try directory.write(bad, to: "digest")
            let error = try failure(flags: flags)
            #expect(
                error.description
                    == "zookeeper.digestFile \(file): expected one line, USER:PASSWORD, found something else")
        }
    }

    @Test func aSecretMayStandInTheEnvironmentAndOnlyOneOfTwoCounts() throws {
        let file = try directory.secret("file:secret")
        let text = "app: shop\nzookeeper:\n  servers: [127.0.0.1:1]\n  digestFile: \(file)\n"
        let config = try directory.write(text, to: "config.yaml")
        func load(_ flags: [String: String], _ environment: [String: String]) throws -> EffectiveConfiguration {
            try ConfigurationLoader(flags: flags, environment: environment, file: config).load()
        }
        let line = ["HOTKEY_ZOOKEEPER_AUTH": "env:s3cr3t"]
        #expect(try load([:], [:]).configuration.zookeeper.credentials?.user == "file")
        let both = try load([:], line)
        #expect(both.configuration.zookeeper.credentials?.user == "env")
        #expect(!both.warnings.contains { $0.contains("HOTKEY_ZOOKEEPER_AUTH") })
        let shown = both.table + (try both.json())
        #expect(!shown.contains("s3cr3t"))
        #expect(try load(["zookeeper-digest-file": file], line).configuration.zookeeper.credentials?.user == "file")
        let error = try failure(environment: line.merging(["HOTKEY_ZOOKEEPER_DIGEST_FILE": file]) { $1 }, file: text)
        #expect(error.description.contains("HOTKEY_ZOOKEEPER_AUTH and HOTKEY_ZOOKEEPER_DIGEST_FILE are both set"))
        let bad = try failure(environment: ["HOTKEY_ZOOKEEPER_AUTH": "s3cr3t"], file: text)
        #expect(bad.description == "HOTKEY_ZOOKEEPER_AUTH: expected one line, USER:PASSWORD, found something else")
    }

    @Test func tlsIsAllOrNothingAndRefusedWithTheRemedyWhereTheLibraryHasNone() throws {
        let pem = try directory.write("", to: "own.pem")
        let flags = ["app": "shop", "zookeeper": "127.0.0.1:1", "zookeeper-tls-ca-file": pem]
        #expect(
            try failure(flags: flags).description.hasPrefix(
                "zookeeper.tlsCertificateFile, zookeeper.tlsKeyFile: expected a file, found none"))
        let all = flags.merging(["zookeeper-tls-certificate-file": pem, "zookeeper-tls-key-file": pem]) { $1 }
        var loader = ConfigurationLoader(flags: all)
        loader.isTLSAvailable = false
        #expect {
            try loader.load()
        } throws: { error in
            "\(error)".hasPrefix("zookeeper.tlsCaFile: the installed ZooKeeper client library")
                && "\(error)".contains("stunnel")
        }
        loader.isTLSAvailable = true
        let tls = try #require(try loader.load().configuration.zookeeper.tls())
        #expect("\(tls)".contains(pem))
        let lost = all.merging(["zookeeper-tls-key-file": "/no/such"]) { $1 }
        loader.flags = lost
        #expect { try loader.load() } throws: { "\($0)".contains("/no/such") }
    }
}
