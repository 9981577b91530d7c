import Foundation
import HotKeyTestSupport
import Testing

/// Exit statuses, messages and help.
@Suite struct UsageTests {
    @Test(arguments: [
        ([], "Say what to do"),
        (["bogus"], "Unexpected argument 'bogus'"),
        (["list", "--bogus"], "Unknown option '--bogus'"),
        (["pin"], "Missing expected argument '<key>'"),
        (["pin", "k", "--copies", "65"], "--copies: 0 to 64."),
        (["pin", "k", "--ttl", "10"], "The value '10' is invalid for '--ttl <time>'"),
        (["pin", "k", "--reason", String(repeating: "x", count: 513)], "at most 512 bytes"),
        (["pin", "!", "--key-base64"], "--key-base64: '!' is not Base64"),
        (["pin", String(repeating: "k", count: 1_025)], "at most 1024 bytes"),
        (["mode", "on"], "one of 'off', 'observe' or 'mitigate'"),
        (["mode", "--reason", "x"], "name the mode to set"),
        (["rules"], "rules show, rules apply FILE, rules validate FILE or rules explain KEY"),
        (["topology"], "topology show or topology apply FILE"),
        (["init", "--nodes", "127.0.0.1:7001"], "is not NAME=HOST:PORT"),
        (["init", "--nodes", "a=127.0.0.1"], "is not NAME=HOST:PORT"),
        (["init", "--nodes", "a=127.0.0.1:0"], "expected host:port with a port from 1 to 65535"),
        (["init", "--nodes", "a=h:1,a=h:2"], "nodes[1].name: expected each name once"),
        (["init", "--nodes", "a=h:1", "--hash", "sha"], "The value 'sha' is invalid for '--hash <name>'"),
        (["init", "--nodes", "a=h:1", "--hash-tag", "{"], "--hash-tag: hashTag: expected two ASCII characters"),
        (["init", "--hash", "md5"], "need --nodes"),
        (["init"], "has no topology yet"),
        (["--output", "xml", "list"], "The value 'xml' is invalid"),
        (["--root", "hotkeys", "list"], "expected an absolute path such as /hotkeys"),
        (["--app", "a/b", "list"], "cannot be an app's name"),
        (["--zookeeper", "nonsense", "list"], "\"nonsense\" is not host:port"),
        (["--timeout", "1d", "list"], "--timeout: at most 10m."),
        (["history", "--limit", "0"], "--limit: at least 1."),
    ])
    func wrongUsageExits2(arguments: [String], message: String) async throws {
        let outcome = try await HKCtl().run(arguments)
        #expect(outcome.status == 2)
        #expect(outcome.standardOutput.isEmpty)
        #expect(outcome.standardError.contains(message), "\(outcome.standardError)")
    }

    @Test func anUnreachableZooKeeperIsExplained() async throws {
        var hkctl = try await HKCtl()
        let address = "127.0.0.1:\(try FreePort.next())"
        hkctl.environment["HOTKEY_ZOOKEEPER"] = address
        let start = ContinuousClock.now
        let outcome = try await hkctl.run("list", "--timeout", "500ms")
        // It ends at all; a busy machine may take long to start it.
        #expect(ContinuousClock.now - start < .seconds(120))
        #expect(outcome.status == 1 && outcome.standardOutput.isEmpty)
        #expect(outcome.standardError.hasPrefix("Error: ZooKeeper does not answer at \(address) (waited 500ms)."))
        #expect(outcome.standardError.contains("name others with --zookeeper HOST:PORT,… or HOTKEY_ZOOKEEPER"))
    }

    @Test func aSilentZooKeeperDoesNotHang() async throws {
        try await ZooKeeperServer.start().use { server in
            var hkctl = try await HKCtl()
            hkctl.environment["HOTKEY_ZOOKEEPER"] = server.connectString
            server.suspend()
            let outcome = try await hkctl.run("list", "--timeout", "500ms")
            #expect(outcome.status == 1 && outcome.standardError.contains("ZooKeeper does not answer at"))
            server.resume()
        }
    }

    @Test func anAppThatIsNotInitialisedIsExplained() async throws {
        let hkctl = try await HKCtl()
        for arguments in [
            ["list"], ["pin", "k"], ["mode"], ["mode", "off"], ["status"], ["agents"], ["history"], ["rules", "show"],
        ] {
            let outcome = try await hkctl.run(arguments)
            #expect(outcome.status == 1)
            #expect(
                outcome.standardError.hasPrefix(
                    "Error: The app \"shop\" is not initialised under \(hkctl.root) at \(hkctl.zookeeper)"))
            #expect(outcome.standardError.contains("hkctl --app shop init --nodes"))
        }
    }

    @Test func theOnlyAppNeedsNoName() async throws {
        var hkctl = try await HKCtl(app: nil)
        let none = try await hkctl.run("list")
        #expect(none.status == 1 && none.standardError.contains("No app is initialised under \(hkctl.root)"))
        let unnamed = try await hkctl.run("init", "--nodes", "a=127.0.0.1:7001")
        #expect(unnamed.status == 2 && unnamed.standardError.contains("Name the app to initialise"))
        try await hkctl.done("init", "--app", "one", "--nodes", "a=127.0.0.1:7001")
        #expect(try await hkctl.done("list") == "No key is hot, pinned or denied in one.\n")
        // The options may stand on either side of the verb.
        try await hkctl.done("--app", "two", "init", "--nodes", "a=127.0.0.1:7001")
        let several = try await hkctl.run("list")
        #expect(several.status == 2)
        #expect(several.standardError.contains("Several apps are there: one, two.\n"))
        hkctl.environment["HOTKEY_APP"] = "one"
        #expect(try await hkctl.done("list").contains("in one."))
        #expect(try await hkctl.done("list", "--app", "two").contains("in two."))
    }

    @Test func theAuthorIsTheUserWhereNoneIsNamed() async throws {
        var hkctl = try await HKCtl.initialised()
        hkctl.environment["HOTKEY_AUTHOR"] = nil
        try await hkctl.done("pin", "k")
        let author = try #require(try await hkctl.json("history")["history"]?[0]?["author"]?.text)
        #expect(author.contains("@") && !author.hasPrefix("@"))
        hkctl.environment["HOTKEY_AUTHOR"] = String(repeating: "a", count: 129)
        #expect(try await hkctl.run("pin", "k").status == 2)
    }

    /// The manual is what the program says.
    @Test func helpIsTheOneInTheManual() async throws {
        var hkctl = try await HKCtl()
        hkctl.environment["COLUMNS"] = "100"
        let manual = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appending(path: "../../docs/hkctl.md")
        let blocks = try String(contentsOf: manual, encoding: .utf8).components(separatedBy: "```")
        var compared = 0
        for block in blocks {
            guard let first = block.split(separator: "\n", maxSplits: 1).first, first.hasPrefix("$ hkctl"),
                first.hasSuffix("--help")
            else { continue }
            let arguments = first.split(separator: " ").dropFirst(2).map(String.init)
            let text = block.drop { $0 != "$" }.drop { $0 != "\n" }.dropFirst()
            #expect(try await hkctl.run(arguments).standardOutput == String(text), "\(first)")
            compared += 1
        }
        #expect(compared >= 3)
        for verb in [
            "init", "list", "get", "watch", "unpin", "deny", "undeny", "mode", "agents", "route", "history", "status",
            "top",
            "simulate",
        ] {
            let outcome = try await hkctl.run(verb, "--help")
            #expect(outcome.status == 0 && outcome.standardOutput.contains("USAGE: hkctl \(verb) "))
        }
        #expect(try await hkctl.done("--version") == "0.1.0\n")
    }
}
