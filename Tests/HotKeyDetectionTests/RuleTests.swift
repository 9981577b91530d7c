import Testing

@testable import HotKeyDetection

@Suite struct RuleTests {
    @Test(arguments: [
        ("*", "", true), ("*", "anything", true), ("item:*", "item:", true), ("item:*", "item", false),
        ("h?llo", "hello", true), ("h?llo", "hllo", false), ("h?llo", "h", false), ("h*llo", "heeeello", true),
        ("h[ae]llo", "hallo", true), ("h[ae]llo", "hillo", false), ("h[^e]llo", "hallo", true),
        ("h[^e]llo", "hello", false), ("h[a-b]llo", "hbllo", true), ("h[b-a]llo", "hallo", true),
        ("h[a-b]llo", "hcllo", false), ("a\\*b", "a*b", true), ("a\\*b", "axb", false), ("a\\", "a\\", true),
        ("[\\]]", "]", true), ("[]", "]", false), ("[^]", "x", true), ("[abc", "b", true), ("[a-", "-", true),
        ("[a-c", "b", true), ("a**b", "ab", true), ("*a*b*c", "xaxbxc", true), ("*a*b*c", "xaxbxcx", false),
        ("*ab", "aab", true), ("*aab*", "aaab", true), ("a", "ab", false), ("ab", "a", false), ("?", "", false),
    ])
    func globsMatchAsInRedis(pattern: String, text: String, expected: Bool) throws {
        #expect(try GlobPattern(pattern).matches(bytes(text)) == expected)
    }

    @Test func globsTakeAnyBytes() throws {
        #expect(try GlobPattern("a?c").matches([0x61, 0xFF, 0x63]))
        #expect(try GlobPattern("ü").matches(bytes("ü")))
    }

    @Test func manyRunsDoNotExplode() throws {
        let pattern = try GlobPattern(String(repeating: "*a", count: 200) + "b")
        #expect(!pattern.matches([UInt8](repeating: UInt8(ascii: "a"), count: 1_024)))
    }

    @Test func emptyAndOverlongPatternsAreRefused() {
        #expect(throws: DetectionError.self) { try GlobPattern("") }
        #expect(throws: DetectionError.self) { try GlobPattern(String(repeating: "a", count: 1_025)) }
    }

    private func rules(_ patterns: [String]) throws -> RuleSet {
        try RuleSet(patterns.map { DetectionRule(pattern: try GlobPattern($0)) })
    }

    @Test(arguments: [
        (["*", "item:*", "item:42"], "item:42", 2), (["*", "item:*", "item:42"], "item:7", 1),
        (["*", "item:*"], "user:1", 0), (["item:??", "item:[0-9]?"], "item:42", 1),
        (["item:*", "item:?"], "item:7", 1),
        (["*:42", "item:*"], "item:42", 1), (["*tem:*", "item*:"], "item:", 1), (["a*", "a*"], "ab", 0),
        (["a*b", "ab*"], "ab", 0), (["ab*", "*ab"], "ab", 0),
    ])
    func theMostSpecificPatternWins(patterns: [String], text: String, expected: Int) throws {
        #expect(try rules(patterns).match(bytes(text))?.position == expected)
    }

    @Test func noRuleMayMatch() throws {
        #expect(try rules(["a*"]).match(bytes("b")) == nil)
        #expect(RuleSet.empty.match(bytes("b")) == nil)
    }

    @Test func allMatchesComeInOrder() throws {
        #expect(
            try rules(["*", "user:*", "item:4*", "item:*"]).allMatches(bytes("item:42")).map(\.position) == [2, 3, 0])
    }

    /// Rules that share beginnings and ends, begin or end with wildcards, or are literal, against trying all of them in order.
    @Test func amongManyRulesTheSameOneAppliesAsByTryingEach() throws {
        var generator = SeededGenerator(seed: 7)
        let pieces = ["*", "?", "[ab]", "a", "b", "ab", "ba:", ":", "\\*"]
        for _ in 0..<200 {
            let patterns = (0..<Int.random(in: 1...60, using: &generator)).map { _ in
                (0..<Int.random(in: 1...5, using: &generator)).map { _ in pieces.randomElement(using: &generator)! }
                    .joined()
            }
            let rules = try rules(patterns)
            for _ in 0..<50 {
                let key = (0..<Int.random(in: 0...7, using: &generator)).map { _ in
                    UInt8(ascii: [UnicodeScalar("a"), "b", ":", "*"].randomElement(using: &generator)!)
                }
                #expect(rules.match(key) == rules.allMatches(key).first, "\(patterns), \(key)")
            }
        }
    }

    @Test func valuesOutOfRangeAreNamed() throws {
        let cases: [(String, (inout DetectionRule) -> Void)] = [
            ("thresholdPerSecond", { $0.thresholdPerSecond = 0 }),
            ("thresholdBytesPerSecond", { $0.thresholdBytesPerSecond = 0 }),
            ("windowMilliseconds", { $0.windowMilliseconds = 1_100 }),
            ("windowMilliseconds", { $0.windowMilliseconds = 350 }),
            ("confirmationSlices", { $0.confirmationSlices = 4 }),
            ("confirmationOfSlices", { $0.confirmationOfSlices = 11 }),
            ("instantMultiple", { $0.instantMultiple = 0.5 }),
            ("leaveRatio", { $0.leaveRatio = 1 }), ("leaveRatio", { $0.leaveRatio = .nan }),
            ("coolDownSeconds", { $0.coolDownSeconds = -1 }),
            ("minimumHotSeconds", { $0.minimumHotSeconds = .infinity }),
            ("reentrySeconds", { $0.reentrySeconds = 1e9 }), ("writeHotRatio", { $0.writeHotRatio = -0.1 }),
            ("missingHotRatio", { $0.missingHotRatio = 0 }), ("missingHotRatio", { $0.missingHotRatio = 1.1 }),
            ("thresholdShareOfNode", { $0.thresholdShareOfNode = 1.01 }),
            ("thresholdFloorPerSecond", { $0.thresholdFloorPerSecond = 0 }),
            (
                "thresholdFloorPerSecond",
                { ($0.thresholdShareOfNode, $0.thresholdFloorPerSecond) = (0.1, $0.thresholdPerSecond + 1) }
            ),
        ]
        for (field, change) in cases {
            let rule = try DetectionRule.forAll(change)
            #expect {
                try RuleSet([rule])
            } throws: { error in
                (error as? DetectionError)?.message.contains("rule \"*\", \(field): expected") == true
            }
        }
        #expect(throws: Never.self) { try RuleSet([try .forAll()]) }
    }
}
