import Foundation
import HotKeyTestSupport
import Logging
import Testing

@testable import HotKeyAgent

/// The pages and files that are shipped say what the program does.
@Suite struct ConfigurationDocumentTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private func text(_ path: String) throws -> String {
        try String(contentsOf: Self.root.appendingPathComponent(path), encoding: .utf8)
    }

    @Test func theDocumentationsTableIsTheProgramsOwn() throws {
        let page = try text("docs/configuration.md")
        let begin = try #require(page.range(of: "<!-- hkagent settings --markdown: begin -->\n"))
        let end = try #require(page.range(of: "<!-- hkagent settings --markdown: end -->"))
        #expect(
            page[begin.upperBound..<end.lowerBound] == Setting.markdownTable,
            "put the output of `hkagent settings --markdown` between the two comments of docs/configuration.md")
    }

    @Test func theExampleFileIsAcceptedWithoutAWarning() throws {
        let path = Self.root.appendingPathComponent("packaging/hkagent.example.yaml").path
        let loaded = try ConfigurationLoader(file: path).load()
        #expect(loaded.warnings.isEmpty, "\(loaded.warnings)")
    }

    @Test func everySettingThatTheExampleHasCommentedOutIsRightAsWell() throws {
        // Fields that are commented out are written without a space after the `#`; sentences have one.
        let uncommented = try text("packaging/hkagent.example.yaml").split(
            separator: "\n", omittingEmptySubsequences: false
        )
        .map { line in
            let body = line.drop { $0 == " " }
            guard body.hasPrefix("#"), !body.hasPrefix("# "), body.count > 1 else { return String(line) }
            return String(line.prefix(line.count - body.count) + body.dropFirst())
        }.joined(separator: "\n")
        let directory = try TemporaryDirectory(prefix: "cfg")
        let digest = try directory.secret("user:password")
        let alone: Set = ["standalone", "nodes", "rulesFile"]
        var filled = uncommented.replacingOccurrences(of: "/etc/hotkey/zookeeper.digest", with: digest)
        for name in ["app.users", "nodes.credentials", "app.password", "fleet.password"] {
            filled = filled.replacingOccurrences(of: "/etc/hotkey/\(name)", with: digest)
        }
        let identity = TestIdentity.shared
        for (suffix, path) in [("pem", identity.certificate), ("key", identity.key)] {
            for name in ["app", "apps-ca", "agents-ca", "agent", "nodes-ca"] {
                filled = filled.replacingOccurrences(of: "/etc/hotkey/\(name).\(suffix)", with: path)
            }
        }
        let file = try directory.write(filled, to: "all.yaml")
        let loaded = try ConfigurationLoader(file: file).load()
        // An agent that runs by itself needs no file, and its settings contradict the others; TLS needs another library.
        for setting in Setting.all where !alone.contains(setting.name) && !setting.name.hasPrefix("zookeeper.tls") {
            let origin = try #require(loaded.setting(setting.name)).origin
            guard case .file = origin else {
                Issue.record("\(setting.name) is not in packaging/hkagent.example.yaml")
                continue
            }
            // Where the default is the same on every host, the example shows it.
            let standard = setting.value(AgentConfiguration())
            if !setting.isRequired, standard != .absent, setting.defaultDescription == standard.description {
                #expect(setting.value(loaded.configuration) == standard, "\(setting.name)")
            }
        }
    }

    @Test func theReportForProgramsHasEverySettingWithItsOrigin() throws {
        let directory = try TemporaryDirectory(prefix: "cfg")
        let file = try directory.write("app: shop\nzookeeper: {servers: [localhost:1, localhost:2]}\n", to: "a.yaml")
        let loaded = try ConfigurationLoader(
            flags: ["threads": "3"], environment: ["HOTKEY_ID": "me"], file: file
        ).load()
        let report = try #require(
            try JSONSerialization.jsonObject(with: Data(try loaded.json().utf8)) as? [String: Any])
        #expect(report["valid"] as? Bool == true)
        let settings = try #require(report["settings"] as? [[String: Any]])
        #expect(settings.map { $0["name"] as? String } == Setting.all.map(\.name))
        func entry(_ name: String) throws -> [String: Any] {
            try #require(settings.first { $0["name"] as? String == name })
        }
        #expect(try entry("app")["from"] as? String == "file")
        #expect(try entry("app")["file"] as? String == file)
        #expect(try entry("zookeeper.servers")["line"] as? Int == 2)
        #expect(try entry("zookeeper.servers")["value"] as? [String] == ["localhost:1", "localhost:2"])
        #expect(try entry("threads")["value"] as? Int == 3)
        #expect(try entry("threads")["flag"] as? String == "threads")
        #expect(try entry("id")["variable"] as? String == "HOTKEY_ID")
        #expect(try entry("stateDir")["value"] is NSNull)
        #expect(try entry("stateDir")["from"] as? String == "default")
    }

    @Test(arguments: [
        "127.0.0.1:6380", "[::1]:0", "localhost:65535", "cache_1.example:1", "unix:/run/hotkey/app.sock",
    ])
    func addressesReadBackAsWritten(text: String) {
        #expect(ListenAddress(text)?.description == text)
    }

    @Test(arguments: [
        "", ":1", "a", "a:", "a:65536", "a:+1", "a:-1", "a: 1", "a b:1", "::1:80", "[1.2.3.4]:80", "[::1]", "[]:1",
        "a/b:1",
        "unix:", "unix:run/a", "unix:/", "unix:/" + String(repeating: "a", count: 107), "http://a:1",
    ])
    func whatIsNoAddressIsRefused(text: String) {
        #expect(ListenAddress(text) == nil)
    }

    @Test func aLogLineCannotBeForgedByWhatItRepeats() async throws {
        func line(_ format: LogFormat) async -> String {
            let (lines, continuation) = AsyncStream.makeStream(of: String.self)
            var handler = AgentLogHandler(label: "agent", level: .info, format: format) { line in
                continuation.yield(line)
            }
            handler[metadataKey: "key"] = "overridden"
            let logger = Logger(label: "agent", factory: { _ in handler })
            logger.debug("left out")
            logger.info("hot\nkey", metadata: ["key": "a\u{1b}[2J\nb \"c\"", "node": "n1"])
            continuation.finish()
            let all = await lines.reduce(into: [String]()) { $0.append($1) }
            return all.count == 1 ? all[0] : "\(all)"
        }
        let text = await line(.text)
        #expect(text.hasSuffix(" info agent: hot\\nkey key=\"a\\u{1b}[2J\\nb \\\"c\\\"\" node=n1\n"), "\(text)")
        #expect(text.filter { $0 == "\n" }.count == 1)
        let json = await line(.json)
        #expect(json.filter { $0 == "\n" }.count == 1)
        let object = try #require(try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any])
        #expect(object["message"] as? String == "hot\nkey")
        #expect(object["fields"] as? [String: String] == ["key": "a\u{1b}[2J\nb \"c\"", "node": "n1"])
        let time = try #require(object["time"] as? String)
        #expect(time.wholeMatch(of: /\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z/) != nil, "\(time)")
    }
}
