import HotKeyDetection
import HotKeyMitigation
import HotKeyRegistry
import HotKeyRules
import RedisProxy
import Testing

@testable import HotKeyAgent

@Suite struct TopologyMappingTests {
    private typealias Node = TopologyDocument.Node

    private func nodes(_ count: Int = 3) -> [TopologyDocument.Node] {
        (0..<count).map { Node(name: "n\($0)", address: "10.0.0.\($0):6379", weight: $0 + 1) }
    }

    private func home(of key: String, in topology: ProxyTopology) -> String {
        Array(key.utf8).withUnsafeBytes { topology.nodes[topology.placement!.home($0)].name }
    }

    @Test func nodesKeepTheirOrderNamesAndAddresses() throws {
        let document = TopologyDocument(nodes: [
            Node(name: "a", address: "cache-1:6379"), Node(name: "b", address: "[::1]:7000", weight: 2),
        ])
        let topology = try ProxyTopology(registry: document)
        #expect(topology.nodes.map(\.name) == ["a", "b"])
        #expect(topology.nodes.map(\.host) == ["cache-1", "::1"])
        #expect(topology.nodes.map(\.port) == [6379, 7000])
        #expect(topology.placement!.nodes.map(\.weight) == [1, 2])
        // As twemproxy would call them, unless the document says otherwise.
        #expect(topology.placement!.nodes.map(\.ringName) == ["cache-1:6379", "::1:7000"])
        let named = try ProxyTopology(
            registry: TopologyDocument(nodes: [Node(name: "a", address: "h:1", ringName: "ring")]))
        #expect(named.placement!.nodes.map(\.ringName) == ["ring"])
    }

    @Test(arguments: TopologyDocument.Hash.allCases, TopologyDocument.Distribution.allCases)
    func everyHashAndDistributionOfTheDocumentIsServed(
        hash: TopologyDocument.Hash, distribution: TopologyDocument.Distribution
    ) throws {
        let document = TopologyDocument(nodes: nodes(), hash: hash, distribution: distribution)
        let topology = try ProxyTopology(registry: document)
        let expected = try Placement(
            nodes: document.nodes.map { PlacementNode(ringName: $0.address, weight: $0.weight) },
            hash: try #require(.init(rawValue: hash.rawValue)),
            distribution: try #require(.init(rawValue: distribution.rawValue)), hashTag: nil)
        for number in 0..<200 {
            let key = Array("key:\(number)".utf8)
            #expect(key.withUnsafeBytes { topology.placement!.home($0) == expected.home($0) })
        }
    }

    @Test func theHashTagDecidesWhereKeysLie() throws {
        let tagged = try ProxyTopology(registry: TopologyDocument(nodes: nodes(8), hashTag: "<>"))
        let plain = try ProxyTopology(registry: TopologyDocument(nodes: nodes(8)))
        let keys = (0..<50).map { "part\($0)<user:7>" }
        #expect(Set(keys.map { home(of: $0, in: tagged) }).count == 1)
        #expect(Set(keys.map { home(of: $0, in: plain) }).count > 1)
    }

    @Test func ofAClusterTheNodesAreWhereToAsk() throws {
        let document = TopologyDocument(kind: .cluster, nodes: nodes())
        let topology = try ProxyTopology(registry: document)
        #expect(topology.nodes.map(\.address) == document.nodes.map(\.address))
        #expect(topology.placement == nil)
        let bad = TopologyDocument(kind: .cluster, nodes: [Node(name: "a", address: "nowhere")])
        let error = try #require(throws: AgentError.self) { _ = try ProxyTopology(registry: bad) }
        #expect(error.message.contains("'nowhere'"))
    }

    @Test func whatCannotBePlacedIsRefusedWithItsPlace() throws {
        func refusal(_ nodes: [TopologyDocument.Node]) throws -> AgentError {
            try #require(throws: AgentError.self) {
                _ = try ProxyTopology(registry: TopologyDocument(nodes: nodes))
            }
        }
        let address = try refusal([Node(name: "a", address: "10.0.0.1:1"), Node(name: "b", address: "nowhere")])
        #expect(address.code == .unusableTopology)
        #expect(address.message.contains("'b'") && address.message.contains("'nowhere'"))
        let twice = try refusal([
            Node(name: "a", address: "10.0.0.1:1", ringName: "x"),
            Node(name: "b", address: "10.0.0.2:1", ringName: "x"),
        ])
        #expect(twice.code == .unusableTopology)
        #expect(twice.message.contains("nodes[1].ringName"))
        #expect(try refusal([]).code == .unusableTopology)
    }
}

@Suite struct RuleBookTests {
    @Test func theStandardBookCoversEveryKeyWithTheDefaults() throws {
        #expect(RuleBook.standard.rule(for: []) == Rule(pattern: "*"))
        #expect(RuleBook.standard.rule(for: [0xff, 0x00]) == Rule(pattern: "*"))
    }

    @Test func theMostSpecificRuleAppliesAndIsTheDocuments() throws {
        let rules = [
            Rule(pattern: "*", copies: 1), Rule(pattern: "item:*", copies: 2), Rule(pattern: "item:4?", copies: 3),
            Rule(pattern: "item:42", copies: 4),
        ]
        // Whatever the order of the list.
        for list in [rules, rules.reversed()] {
            let book = try RuleBook(RulesDocument(rules: list))
            let copies = ["other", "item:1", "item:41", "item:42"].map { book.rule(for: Array($0.utf8))?.copies }
            #expect(copies == [1, 2, 3, 4])
        }
        let narrow = try RuleBook(RulesDocument(rules: [Rule(pattern: "item:*")]))
        #expect(narrow.rule(for: Array("other".utf8)) == nil)
    }

    @Test func detectionGetsEveryFieldOfTheRule() throws {
        let rule = Rule(
            pattern: "p*", thresholdPerSecond: 11, thresholdBytesPerSecond: 12, windowMilliseconds: 900,
            confirmSlices: 3, confirmOfSlices: 4, instantMultiple: 5.5, leaveRatio: 0.25, coolDownSeconds: 6,
            minimumHotSeconds: 7, reentrySeconds: 8, writeHotRatio: 0.5)
        let match = try #require(try RuleBook(RulesDocument(rules: [rule])).detection.match(Array("p".utf8)))
        let expected = DetectionRule(
            pattern: try GlobPattern("p*"), thresholdPerSecond: 11, thresholdBytesPerSecond: 12,
            windowMilliseconds: 900, confirmationSlices: 3, confirmationOfSlices: 4, instantMultiple: 5.5,
            leaveRatio: 0.25, coolDownSeconds: 6, minimumHotSeconds: 7, reentrySeconds: 8, writeHotRatio: 0.5)
        #expect(match.rule == expected)
    }

    @Test func aRuleThatDetectionRefusesIsNamed() throws {
        let document = RulesDocument(rules: [Rule(pattern: "good"), Rule(pattern: "bad", thresholdPerSecond: 0)])
        let error = try #require(throws: RuleBookError.self) { _ = try RuleBook(document) }
        #expect(error.message.contains("\"bad\"") && error.message.contains("thresholdPerSecond"))
    }
}
