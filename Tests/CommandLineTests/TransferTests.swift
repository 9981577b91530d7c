import Foundation
import HotKeyTestSupport
import Testing

/// export and import.
@Suite struct TransferTests {
    private func filled() async throws -> HKCtl {
        let hkctl = try await HKCtl.initialised()
        try await hkctl.done("pin", "item:42", "--copies", "2", "--reason", "launch", "--ttl", "1h")
        try await hkctl.done("pin", "/w==", "--key-base64")
        try await hkctl.done("deny", "item:7")
        try await hkctl.done("mode", "observe")
        try await hkctl.done(
            "rules", "apply", "-", input: "schema: 1\nrules: [{pattern: 'item:*', copies: 5}, {pattern: '*'}]\n")
        return hkctl
    }

    private let documents = ["control", "rules", "pins", "topology"]
    /// Without the imports in the history: they tell of themselves.
    private func bytes(_ hkctl: HKCtl) async throws -> String {
        try await Kazoo(hkctl: hkctl).run(
            """
            import json
            for n in ['control','rules','pins','topology']:
                d = json.loads(zk.get(app+'/'+n)[0])
                if n == 'pins': d['history'] = [e for e in d['history'] if e['verb'] != 'import']
                print(json.dumps(d, sort_keys=True))
            """)
    }

    @Test func theRoundTripIsIdentityAndARebuiltRegistryIsTheOld() async throws {
        let hkctl = try await filled()
        let directory = try TemporaryDirectory(prefix: "export")
        let file = directory.file("shop.json")
        #expect(try await hkctl.done("export", file).contains("2 rules, 2 pins, 1 deny, 2 nodes"))
        let before = try await bytes(hkctl)
        #expect(try await hkctl.done("import", file).contains("nothing changed"))
        #expect(try await bytes(hkctl) == before)

        // A root that holds nothing; the file names the app.
        var fresh = try await HKCtl(app: nil)
        #expect(try await fresh.done("import", file, "--dry-run").contains("created"))
        #expect(try await fresh.run("status").status == 1)
        #expect(try await fresh.json("import", file, "--reason", "lost servers")["isNew"] == true)
        fresh.environment["HOTKEY_APP"] = "shop"
        #expect(try await bytes(fresh) == before)
        let history = try await fresh.done("history")
        #expect(history.contains("import") && history.contains("lost servers"))
        #expect(try await fresh.json("doctor")["healthy"] == true)

        // And one that was initialised with something else.
        let other = try await HKCtl()
        try await other.done("init", "--nodes", "z=127.0.0.1:7009")
        try await other.done("pin", "gone")
        let dry = try await other.done("import", file, "--dry-run")
        for line in [
            "control: mode mitigate to observe", "rules: rule added: item:*", "pins: pin added: item:42, ",
            "pins: pin removed: gone", "pins: deny added: item:7", "topology: node added: a, b",
            "topology: node removed: z",
            "topology: hash tag \"\" to \"{}\"",
        ] { #expect(dry.contains(line), "\(line) in \(dry)") }
        #expect(try await bytes(other) != before)
        try await other.done("import", file)
        #expect(try await bytes(other) == before)
        // What is exported from there is the same but for the time.
        func exported(_ hkctl: HKCtl) async throws -> [JSON?] {
            let json = try JSON(try await hkctl.done("export"))
            return documents.map { $0 == "pins" ? json[$0]?["pins"] : json[$0] }
        }
        #expect(try await exported(other) == exported(hkctl))
    }

    @Test func whatIsWrongAnywhereChangesNothing() async throws {
        let hkctl = try await filled()
        let good = try await hkctl.done("export")
        let before = try await bytes(hkctl)
        for (from, to, expected) in [
            ("\"copies\" : 5", "\"copies\" : 500", "rules.rules[0].copies"),
            ("\"mode\" : \"observe\"", "\"mode\" : \"sleep\"", "control.mode"),
            ("\"reason\" : \"launch\"", "\"raeson\" : \"launch\"", "pins.pins[0].raeson"),
            ("\"schema\" : 1,\n  \"topology\"", "\"schema\" : 9,\n  \"topology\"", "schema"),
            ("\"app\" : \"shop\"", "\"app\" : \"shop\", \"acl\" : 1", "acl"),
        ] {
            let bad = good.replacingOccurrences(of: from, with: to)
            #expect(bad != good, "\(from)")
            let outcome = try await hkctl.run("import", "-", input: bad)
            #expect(outcome.status == 1, "\(to)")
            #expect(outcome.standardError.contains(expected), "\(outcome.standardError)")
            #expect(outcome.standardError.contains("standard input:"))
        }
        #expect(try await hkctl.run("import", "/no/such/file").status == 1)
        #expect(try await bytes(hkctl) == before)
    }

    /// The import replaces what was compared, or nothing: an edit in between is compared again.
    @Test func twoImportsAtOnceLeaveOneOfThemWhole() async throws {
        let hkctl = try await filled()
        let one = try await hkctl.done("export")
        let two = one.replacingOccurrences(of: "\"copies\" : 5", with: "\"copies\" : 6")
            .replacingOccurrences(of: "\"mode\" : \"observe\"", with: "\"mode\" : \"off\"")
        for _ in 0..<3 {
            async let first = hkctl.run("import", "-", input: one)
            async let second = hkctl.run("import", "-", input: two)
            #expect(try await first.status == 0)
            #expect(try await second.status == 0)
            let json = try JSON(try await hkctl.done("export"))
            let mode = json["control"]?["mode"]?.text
            let copies = json["rules"]?["rules"]?[0]?["copies"]
            #expect(mode == "off" && copies == 6 || mode == "observe" && copies == 5)
        }
    }
}
