import StrictCoding
import Testing

private struct Rule: Codable, Equatable, Validating {
    enum Action: String, Codable { case cache, copies }
    var pattern: String
    var copies: Int
    var ratio: Double?
    var action: Action?
    enum CodingKeys: String, CodingKey, CaseIterable { case pattern, copies, ratio, action }
    func validate() throws {
        try require(copies, in: 1...8, "copies")
        try require(!pattern.isEmpty, "pattern", expected: "a pattern")
    }
}

private struct Rules: Codable, Equatable {
    var schema: Int
    var rules: [Rule]
    enum CodingKeys: String, CodingKey, CaseIterable { case schema, rules }
}

private func refusal(_ text: String, sourceLocation: SourceLocation = #_sourceLocation) throws -> DocumentError {
    try #require(throws: DocumentError.self, sourceLocation: sourceLocation) {
        try StrictDecoder.decode(Rules.self, from: text, source: "rules")
    }
}

@Suite struct StrictDecoderTests {
    private let expected = Rules(
        schema: 1,
        rules: [Rule(pattern: "*", copies: 3, ratio: 0.5, action: .cache), Rule(pattern: "a/\"ü", copies: 1)])

    @Test func jsonAndYAMLGiveTheSameValue() throws {
        let json = """

            {"schema": 1, "rules": [
              {"pattern": "*", "copies": 3, "ratio": 5e-1, "action": "cache"},
              {"pattern": "a\\/\\"\\u00fc", "copies": 1, "ratio": null}
            ]}
            """
        let yaml = """
            # by hand
            schema: 1
            rules:
              - pattern: "*"
                copies: 3
                ratio: 0.5
                action: cache
              - {pattern: 'a/"ü', copies: 1}
            """
        #expect(try StrictDecoder.decode(Rules.self, from: json, source: "x") == expected)
        #expect(try StrictDecoder.decode(Rules.self, from: yaml, source: "x") == expected)
    }

    @Test func encodingIsSortedCompactAndRoundTrips() throws {
        let bytes = try StrictEncoder.encode(expected)
        #expect(
            String(decoding: bytes, as: UTF8.self)
                == #"{"rules":[{"action":"cache","copies":3,"pattern":"*","ratio":0.5},{"copies":1,"pattern":"a/\"ü"}],"schema":1}"#
        )
        #expect(try StrictDecoder.decode(Rules.self, from: bytes, source: "x") == expected)
    }

    @Test func anUnknownFieldIsNamedWithItsLineAndANeighbour() throws {
        let error = try refusal("{\"schema\": 1,\n \"rules\": [\n  {\"pattern\": \"*\", \"copys\": 3}]}")
        #expect(error.code == .unknownField)
        #expect(error.path == "rules[0].copys")
        #expect(error.line == 3 && error.column == 20)
        #expect(error.description.contains("did you mean copies?"))
        #expect(error.description.contains("pattern, copies, ratio, action"))
        let yaml = try refusal("schema: 1\nrules:\n  - pattern: '*'\n    copies: 3\n    extra: x\n")
        #expect(yaml.code == .unknownField && yaml.line == 5 && yaml.path == "rules[0].extra")
    }

    @Test(arguments: [
        ("{\"schema\":1}", DocumentError.Code.missingField, "rules", 1),
        ("{\"schema\":1,\"rules\":[\n{\"pattern\":\"*\"}]}", .missingField, "rules[0].copies", 2),
        ("{\"schema\":1,\"rules\":[\n{\"pattern\":\"*\",\n\"copies\":\"three\"}]}", .wrongType, "rules[0].copies", 3),
        ("{\"schema\":1,\"rules\":[\n{\"pattern\":7,\"copies\":3}]}", .wrongType, "rules[0].pattern", 2),
        ("{\"schema\":1,\"rules\":\n{}}", .wrongType, "rules", 2),
        ("{\"schema\":1.5,\"rules\":[]}", .wrongType, "schema", 1),
        ("{\"schema\":null,\"rules\":[]}", .wrongType, "schema", 1),
        ("{\"schema\":99999999999999999999,\"rules\":[]}", .invalidValue, "schema", 1),
        ("{\"schema\":1,\"rules\":[\n{\"pattern\":\"*\",\"copies\":9}]}", .invalidValue, "rules[0].copies", 2),
        ("{\"schema\":1,\"rules\":[\n{\"pattern\":\"\",\"copies\":9}]}", .invalidValue, "rules[0].copies", 2),
        (
            "{\"schema\":1,\"rules\":[\n{\"pattern\":\"*\",\"copies\":1,\"action\":\"x\"}]}", .invalidValue,
            "rules[0].action", 2
        ),
        ("schema: 1\nrules:\n- pattern: \"*\"\n  copies: 1\n  ratio: .inf\n", .wrongType, "rules[0].ratio", 5),
        ("schema: one\nrules: []\n", .wrongType, "schema", 1),
        ("[]", .wrongType, "", 1),
        ("", .wrongType, "", 1),
        ("{\"schema\":1,\"rules\":[],\n\"schema\":1}", .duplicateField, "", 2),
        ("schema: 1\nrules: []\nschema: 1\n", .duplicateField, "", 3),
        (
            "schema: 1\nrules:\n- pattern: a\n  copies: 1\n- pattern: b\n  copies: 1\n  \"pattern\" : c\n",
            .duplicateField, "", 7
        ),
        ("rules: []\nschema: {a: 1,\n a: 2}\n", .duplicateField, "", 2),
        ("{\"schema\":1,\"rules\":[]} x", .syntax, "", 1),
        ("{\"schema\":1,\n\"rules\":[}", .syntax, "", 2),
        ("{\"schema\":01,\"rules\":[]}", .syntax, "", 1),
        ("{\"schema\":1,\"rules\":[],}", .syntax, "", 1),
        ("{'schema':1}", .syntax, "", 1),
        ("{\"schema\":tru}", .syntax, "", 1),
        ("{\"a\":\"\\ud83d\"}", .syntax, "", 1),
        ("{\"a\":\"\u{1}\"}", .syntax, "", 1),
        ("schema: [1\nrules: 2", .syntax, "", 2),
        ("schema: &a 1\nrules: []\n", .syntax, "", 1),
        ("schema: 1\nrules: [&a {pattern: x, copies: 1}, *a]\n", .syntax, "", 2),
        ("schema: !!float 1\nrules: []\n", .syntax, "", 1),
    ])
    func badDocumentsAreRefusedWithTheirPlace(
        text: String, code: DocumentError.Code, path: String, line: Int
    ) throws {
        let error = try refusal(text)
        #expect(error.code == code, "\(error)")
        #expect(error.path == path, "\(error)")
        #expect(error.line == line, "\(error)")
        #expect(error.description.hasPrefix("rules:\(line)"))
    }

    @Test func booleansOfOlderYAMLStayStrings() throws {
        struct Mode: Decodable { var mode: String }
        for word in ["off", "on", "yes", "no"] {
            #expect(try StrictDecoder.decode(Mode.self, from: "mode: \(word)", source: "x").mode == word)
        }
        #expect(try StrictDecoder.decode(Mode.self, from: "mode: 10.0.0.1:6379", source: "x").mode == "10.0.0.1:6379")
        #expect(throws: DocumentError.self) { try StrictDecoder.decode(Mode.self, from: "mode: true", source: "x") }
    }

    @Test func surrogatePairsAndLongMappingsAreRead() throws {
        #expect(try StrictDecoder.decode([String].self, from: #"["\ud83d\ude00\u0000"]"#, source: "x") == ["😀\u{0}"])
        let fields = (0..<100).map { "\"k\($0)\":\($0)" }
        let text = "{\(fields.joined(separator: ","))}"
        #expect(try StrictDecoder.decode([String: Int].self, from: text, source: "x")["k99"] == 99)
        #expect(throws: DocumentError.self) {
            try StrictDecoder.decode(
                [String: Int].self, from: "{\(fields.joined(separator: ",")),\"k50\":1}", source: "x")
        }
    }

    @Test func inputIsBounded() throws {
        let deep = String(repeating: "[", count: 100_000)
        for text in [deep, "a: " + deep] {
            #expect {
                try StrictDecoder.decode([Int].self, from: text, source: "x")
            } throws: {
                [.tooLarge, .syntax].contains(($0 as? DocumentError)?.code)
            }
        }
        #expect {
            try StrictDecoder.decode([Int].self, from: "[1,2,3]", source: "x", bytesMax: 6)
        } throws: {
            ($0 as? DocumentError)?.code == .tooLarge
        }
        #expect {
            try StrictDecoder.decode([Int].self, from: [0x5b, 0xff, 0x5d], source: "x")
        } throws: {
            ($0 as? DocumentError)?.code == .syntax
        }
    }

    @Test func columnsCountCharactersNotBytes() throws {
        let error = try refusal("{\"schema\":1,\"rules\":[{\"pattern\":\"üüü\",\"copies\":\"x\"}]}")
        #expect(error.column == 48)
    }

    @Test func secretsAreNotRepeated() throws {
        struct Account: Decodable { var password: [String] }
        do {
            _ = try StrictDecoder.decode(Account.self, from: "password: hunter2", source: "x")
            Issue.record("accepted")
        } catch {
            #expect(!error.description.contains("hunter2"))
            #expect(error.path == "password")
        }
    }

    @Test func everyPrefixOfADocumentIsRefusedWithoutHarm() throws {
        let bytes = try StrictEncoder.encode(expected)
        for end in 1..<bytes.count {
            #expect(throws: DocumentError.self) {
                try StrictDecoder.decode(Rules.self, from: Array(bytes[..<end]), source: "x")
            }
        }
    }
}
