import Foundation
import HotKeyTestSupport
import Testing

/// An app with three users, each with a file of its own.
struct Roles: Sendable {
    static let passwords = ["ann": "ann:operator-secret", "agent": "agent:agent-secret", "bob": "bob:reader-secret"]
    let directory: TemporaryDirectory
    let hkctl: HKCtl

    init(anyoneMayRead: Bool = false) async throws {
        directory = try TemporaryDirectory(prefix: "roles")
        hkctl = try await HKCtl()
        var ids: [String: String] = [:]
        for (user, line) in Self.passwords {
            let file = try directory.write(line + "\n", to: user)
            try setMode(file, 0o600)
            ids[user] = try await hkctl.done("acl", "digest", "--zookeeper-digest-file", file)
                .split(separator: "\n").joined()
        }
        try directory.write(
            """
            schema: 1
            operators: ["\(ids["ann"] ?? "")"]
            agents: ["\(ids["agent"] ?? "")"]
            readers: ["\(ids["bob"] ?? "")"]
            anyoneMayRead: \(anyoneMayRead)

            """, to: "roles.yaml")
    }

    var file: String { directory.file("roles.yaml") }

    /// `hkctl` as one of the users, who is named by the environment; nil does not authenticate.
    func by(_ user: String?) -> HKCtl {
        var hkctl = hkctl
        hkctl.environment["HOTKEY_ZOOKEEPER_DIGEST_FILE"] = user.map { directory.file($0) } ?? ""
        return hkctl
    }

    /// Every secret, none of which may ever be printed.
    static var secrets: [String] { passwords.values.map { String($0.split(separator: ":")[1]) } }
}

func setMode(_ file: String, _ mode: UInt16) throws {
    try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file)
}

@Suite struct AccessTests {
    static let nodes = "a=127.0.0.1:7001,b=127.0.0.1:7002"

    @Test func eachRoleMayDoWhatItsWorkNeedsAndNoMore() async throws {
        let roles = try await Roles()
        try await roles.by("ann").done("init", "--nodes", Self.nodes, "--acl", roles.file)
        try await roles.by("ann").done("pin", "item:42")
        #expect(try await roles.by("ann").done("acl", "show").contains("operator  ann    everything\n"))
        #expect(try await roles.by("bob").done("list").contains("item:42"))
        #expect(try await roles.by("agent").done("list").contains("item:42"))
        for (user, words) in [
            ("bob", ["pin", "x"]), ("agent", ["pin", "x"]), (nil, ["pin", "x"]), (nil, ["list"]), (nil, ["status"]),
            ("bob", ["acl", "show"]), ("agent", ["mode", "off"]), ("agent", ["acl", "apply", "--open"]),
        ] as [(String?, [String])] {
            let outcome = try await roles.by(user).run(words)
            let text = outcome.standardError
            #expect(outcome.status == 1, "\(user ?? "nobody") \(words)")
            #expect(text.contains("ZooKeeper refuses access to \(roles.hkctl.root)/shop/"), "\(text)")
            #expect(text.contains("changing anything needs the role operator"))
            let who = user.map { "This session authenticated as \($0) (HOTKEY_ZOOKEEPER_DIGEST_FILE " }
            #expect(text.contains(who ?? "This session did not authenticate: give a user and a password with "))
            #expect(text.contains("HOTKEY_ZOOKEEPER_AUTH"))
            #expect(!Roles.secrets.contains { text.contains($0) })
        }
    }

    /// Past our tools, by the servers themselves, on every node.
    @Test func theServersRefuseWhatARoleMayNot() async throws {
        let roles = try await Roles()
        try await roles.by("ann").done("init", "--nodes", Self.nodes, "--acl", roles.file)
        let probe = """
            def may(action):
                try:
                    action()
                    return "y"
                except NoAuthError:
                    return "n"
            def nodes(path):
                yield path
                try:
                    for child in zk.get_children(path):
                        yield from nodes(path + "/" + child)
                except NoAuthError:
                    pass
            for path in ["", "/control", "/pins", "/rules", "/topology", "/access", "/hot", "/hot/3f", "/sources", "/leader",
                         "/agents"]:
                node = app + path
                data = may(lambda: zk.get(node))
                version = zk.exists(node).version
                write = may(lambda: zk.set(node, zk.get(node)[0] if data == "y" else b"", version=version))
                made = may(lambda: zk.create(node + "/x-0000000001", b""))
                gone = may(lambda: zk.delete(node + "/x-0000000001")) if made == "y" else "n"
                lists = may(lambda: zk.set_acls(node, zk.get_acls(node)[0]))
                print(path or "/", data + write + made + gone + lists)
            """
        func rights(_ login: String?) async throws -> [String] {
            try await Kazoo(hkctl: roles.hkctl, login: login).run(probe).split(separator: "\n").map(String.init)
        }
        // Read, write, create below, delete below, change the list.
        #expect(
            try await rights(Roles.passwords["agent"]) == [
                "/ ynnnn", "/control ynnnn", "/pins ynnnn", "/rules ynnnn", "/topology ynnnn", "/access ynnnn",
                "/hot yyynn", "/hot/3f yyynn", "/sources yyyyn", "/leader ynyyn", "/agents ynyyn",
            ])
        // What the agent could make below `hot` and not delete is the operator's to delete.
        try await Kazoo(hkctl: roles.hkctl, login: Roles.passwords["ann"]).run(
            "zk.delete(app + '/hot/x-0000000001'); zk.delete(app + '/hot/3f/x-0000000001')")
        #expect(
            try await rights(Roles.passwords["bob"]) == [
                "/ ynnnn", "/control ynnnn", "/pins ynnnn", "/rules ynnnn", "/topology ynnnn", "/access nnnnn",
                "/hot ynnnn", "/hot/3f ynnnn", "/sources ynnnn", "/leader ynnnn", "/agents ynnnn",
            ])
        #expect(try await rights(nil).allSatisfy { $0.hasSuffix(" nnnnn") })
        #expect(try await rights("ann:guessed").allSatisfy { $0.hasSuffix(" nnnnn") })
        #expect(try await rights(Roles.passwords["ann"]).allSatisfy { $0.hasSuffix(" yyyyy") })
    }

    @Test func rolesAreSetChangedAndTakenAwayOnATreeThatIsThere() async throws {
        let roles = try await Roles(anyoneMayRead: true)
        let ann = roles.by("ann")
        try await ann.done("init", "--nodes", Self.nodes)
        #expect(
            try await roles.by(nil).run("acl", "show").standardError.contains(
                "whoever reaches ZooKeeper may do everything"))
        #expect(try await ann.json("acl", "apply", roles.file)["changed"] == true)
        #expect(try await ann.json("acl", "apply", roles.file)["changed"] == false)
        #expect(try await ann.json("doctor")["healthy"] == true)
        // Everyone may read as configured, and nobody but the operator may write.
        #expect(try await roles.by(nil).done("status").contains("mode"))
        #expect(try await roles.by(nil).run("pin", "x").status == 1)

        // What is shown can be edited and applied.
        let shown = try await ann.done("acl", "show", "--output", "json")
        #expect(try await ann.json("acl", "apply", roles.file)["changed"] == false)
        try roles.directory.write(
            shown.replacingOccurrences(of: "\"anyoneMayRead\" : true", with: "\"anyoneMayRead\" : false"),
            to: "next.json")
        try await ann.done("acl", "apply", roles.directory.file("next.json"))
        #expect(try await roles.by(nil).run("status").status == 1)
        #expect(try await ann.json("doctor")["healthy"] == true)

        try await ann.done("acl", "apply", "--open")
        try await roles.by(nil).done("pin", "x")
        #expect(try await roles.by(nil).json("doctor")["healthy"] == true)
    }

    @Test func nobodyLocksThemselvesOut() async throws {
        let roles = try await Roles()
        try await roles.by("ann").done("init", "--nodes", Self.nodes)
        for user in ["bob", nil] as [String?] {
            let outcome = try await roles.by(user).run("acl", "apply", roles.file)
            #expect(outcome.status == 1 && outcome.standardError.contains("would lock you out"))
        }
        #expect(try await roles.by(nil).run("acl", "show").standardError.contains("has no roles"))
    }

    @Test func aBadFileOfRolesIsRefusedAsAWholeAndNotRepeated() async throws {
        let roles = try await Roles()
        let ann = roles.by("ann")
        try await ann.done("init", "--nodes", Self.nodes)
        for (text, expected) in [
            ("schema: 1\noperators: [\"ann:operator-secret\"]\n", "operators[0]: expected USER:HASH"),
            ("schema: 1\noperators: []\n", "operators: expected at least one identity"),
            ("schema: 1\noperator: []\n", "expected one of the fields"),
            ("schema: 2\noperators: []\n", "schema"),
        ] {
            let outcome = try await ann.run("acl", "apply", "-", input: text)
            #expect(outcome.status == 1 && outcome.standardError.contains(expected), "\(outcome)")
            #expect(!outcome.standardError.contains("operator-secret"))
        }
        #expect(try await ann.run("acl", "apply").status == 2)
        #expect(try await ann.run("acl", "apply", "x", "--open").status == 2)
    }

    @Test func aCredentialComesFromAFileOrTheEnvironmentAndIsNeverShown() async throws {
        let roles = try await Roles()
        let file = roles.directory.file("ann")
        try await roles.by("ann").done("init", "--nodes", Self.nodes, "--acl", roles.file)
        var hkctl = roles.by(nil)
        hkctl.environment["HOTKEY_ZOOKEEPER_AUTH"] = Roles.passwords["ann"]
        #expect(try await hkctl.done("status").contains("mode"))
        // The flag wins over the variable.
        #expect(try await hkctl.run("pin", "x", "--zookeeper-digest-file", roles.directory.file("bob")).status == 1)
        hkctl.environment["HOTKEY_ZOOKEEPER_DIGEST_FILE"] = file
        let both = try await hkctl.run("status")
        #expect(both.status == 2 && both.standardError.contains("are both set"))

        for (mode, isFine) in [(0o640, true), (0o600, true), (0o644, false), (0o660, false), (0o602, false)]
            as [(UInt16, Bool)]
        {
            try setMode(file, mode)
            let outcome = try await roles.by("ann").run("status")
            #expect(outcome.status == (isFine ? 0 : 1), "\(String(mode, radix: 8))")
            if !isFine {
                #expect(outcome.standardError.contains("chmod u=rw,g=r,o= \(file)"))
            }
        }
        for bad in ["operator-secret", "", "ann:", ":operator-secret", "ann:operator-secret\nsecond"] {
            try roles.directory.write(bad, to: "ann")
            try setMode(file, 0o600)
            let outcome = try await roles.by("ann").run("status")
            #expect(outcome.status == 1 && outcome.standardError.contains("expected one line, USER:PASSWORD"), "\(bad)")
            #expect(!outcome.standardError.contains("operator-secret"))
        }
    }

    /// The way back when nobody has an operator's password any more.
    @Test func theServersSuperUserPutsRightWhatNobodyElseCan() async throws {
        var configuration = ZooKeeperServer.Configuration()
        configuration.systemProperties["zookeeper.DigestAuthenticationProvider.superDigest"] =
            "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
        let server = try await ZooKeeperServer.start(configuration)
        let roles = try await Roles()
        func at(_ hkctl: HKCtl, _ line: String) -> HKCtl {
            var hkctl = hkctl
            hkctl.environment["HOTKEY_ZOOKEEPER"] = server.connectString
            hkctl.environment["HOTKEY_ZOOKEEPER_AUTH"] = line
            return hkctl
        }
        let ann = at(roles.by(nil), Roles.passwords["ann"] ?? "")
        let eve = at(roles.by(nil), "eve:another secret")
        let superUser = at(roles.by(nil), "super:test")
        try await ann.done("init", "--nodes", Self.nodes, "--acl", roles.file)
        #expect(try await eve.run("status").status == 1)
        let identity = try await eve.done("acl", "digest")
        try await superUser.done(
            "acl", "apply", "-", input: "schema: 1\noperators: [\"\(identity.dropLast())\"]\n")
        try await eve.done("pin", "x")
        #expect(try await ann.run("status").status == 1)
        #expect(try await eve.json("doctor")["healthy"] == true)
        #expect(try await superUser.json("doctor")["healthy"] == true)
        await server.stop()
    }

    /// ZooKeeper's own example of the scheme.
    @Test func theDigestIsZooKeepers() async throws {
        let hkctl = try await HKCtl()
        #expect(try await hkctl.done("acl", "digest", input: "super:test\n") == "super:D/InIHSb7yEEbrWz8b9l71RjZJU=\n")
    }

    @Test func tlsIsRefusedWithTheRemedyWhereTheLibraryHasNone() async throws {
        let hkctl = try await HKCtl()
        let some = try await hkctl.run("status", "--zookeeper-tls-ca-file", "/ca.pem")
        #expect(
            some.status == 2
                && some.standardError.contains("--zookeeper-tls-certificate-file and --zookeeper-tls-key-file missing"))
        let all = try await hkctl.run(
            "status", "--zookeeper-tls-ca-file", "/ca.pem", "--zookeeper-tls-certificate-file", "/c.pem",
            "--zookeeper-tls-key-file", "/k.pem")
        // With a library that has it, the files are not there.
        #expect(all.status != 0)
        #expect(
            all.standardError.contains("has no TLS")
                ? all.standardError.contains("stunnel") : all.standardError.contains("/ca.pem"))
    }
}
