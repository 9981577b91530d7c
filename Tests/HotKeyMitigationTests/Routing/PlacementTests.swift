import HotKeyMitigation
import Testing

@Suite struct PlacementTests {
    // MARK: - Against twemproxy

    private struct Vector {
        var name: String
        var nodes: [PlacementNode]
        var hash: KeyHash
        var tag: (UInt8, UInt8)?
        var owners: [Int]
    }

    private static let keys: [[UInt8]] = {
        var keys: [[UInt8]] = []
        var text = ""
        for line in vectorKeys.split(separator: "\n") {
            if line.hasSuffix("+") {
                text += line.dropLast()
                continue
            }
            text += line
            let digits = text.map { UInt8($0.hexDigitValue!) }
            keys.append(stride(from: 0, to: digits.count, by: 2).map { digits[$0] << 4 | digits[$0 + 1] })
            text = ""
        }
        return keys
    }()

    private static let nodeSets: [String: [PlacementNode]] = {
        var sets: [String: [PlacementNode]] = [:]
        for line in vectorNodeSets.split(separator: "\n") {
            let words = line.split(separator: " ")
            for word in words.dropFirst() {
                let parts = word.split(separator: "*")
                sets[String(words[0]), default: []].append(
                    PlacementNode(ringName: String(parts[0]), weight: Int(parts[1])!))
            }
        }
        return sets
    }()

    private static func vectors(_ text: String) -> [Vector] {
        var vectors: [Vector] = []
        for line in text.split(separator: "\n") {
            let words = line.split(separator: " ")
            if words.count == 3 {
                let tag = Array(words[2].utf8)
                vectors.append(
                    Vector(
                        name: String(line), nodes: nodeSets[String(words[0])]!,
                        hash: KeyHash(rawValue: String(words[1]))!,
                        tag: tag.count == 2 ? (tag[0], tag[1]) : nil, owners: []))
            } else {
                vectors[vectors.count - 1].owners += line.map { Int(String($0), radix: 36)! }
            }
        }
        return vectors
    }

    @Test("every key lies where twemproxy 0.5.0 put it", arguments: [Distribution.ketama, .modula])
    func sameAsTwemproxy(_ distribution: Distribution) throws {
        let vectors = Self.vectors(distribution == .ketama ? ketamaVectors : modulaVectors)
        #expect(vectors.count == 69)
        #expect(Self.keys.count > 250)
        for vector in vectors {
            let placement = try Placement(
                nodes: vector.nodes, hash: vector.hash, distribution: distribution, hashTag: vector.tag)
            let homes = Self.keys.map { $0.withRaw { placement.home($0) } }
            #expect(vector.owners.count == Self.keys.count)
            let wrong = homes.indices.filter { homes[$0] != vector.owners[$0] }
            #expect(wrong.isEmpty, "\(distribution) \(vector.name): keys \(wrong.map { Self.keys[$0] })")
        }
    }

    @Test("twemproxy leaves port 11211 out of a server's default name")
    func defaultName() {
        #expect(PlacementNode.defaultRingName(host: "10.0.0.1", port: 6379) == "10.0.0.1:6379")
        #expect(PlacementNode.defaultRingName(host: "10.0.0.1", port: 11211) == "10.0.0.1")
    }

    // MARK: - The ring

    private func nodes(_ count: Int) -> [PlacementNode] {
        (0..<count).map { PlacementNode(ringName: "10.0.0.\($0):6379", weight: 1) }
    }

    private func placement(_ nodes: [PlacementNode], _ distribution: Distribution = .ketama) throws -> Placement {
        try Placement(nodes: nodes, hash: .fnv1a_64, distribution: distribution, hashTag: nil)
    }

    @Test("equal nodes get equal shares of the keys, within what 160 points allow")
    func balance() throws {
        for distribution in [Distribution.ketama, .modula] {
            let placement = try placement(nodes(8), distribution)
            var counts = [Int](repeating: 0, count: 8)
            for number in 0..<40_000 { counts["user:\(number):profile".withRaw { placement.home($0) }] += 1 }
            // 160 random arcs a node have a standard deviation of 8 % of the mean; the bound is four of them.
            #expect(counts.allSatisfy { (3400...6600).contains($0) }, "\(distribution): \(counts)")
        }
    }

    @Test(
        "successors are distinct, begin at home, and are all nodes in the end",
        arguments: [Distribution.ketama, .modula])
    func successorsAreDistinct(_ distribution: Distribution) throws {
        let placement = try placement(nodes(5), distribution)
        for number in 0..<500 {
            "key-\(number)".withRaw { key in
                let all = placement.successors(key, count: 9)
                #expect(all.first == placement.home(key))
                #expect(Set(all).count == 5)
                #expect(placement.successors(key, count: 3) == Array(all.prefix(3)))
                #expect(placement.successors(key, count: 0).isEmpty)
            }
        }
    }

    @Test("copies of many keys spread over all other nodes", arguments: [Distribution.ketama, .modula])
    func successorsSpread(_ distribution: Distribution) throws {
        let placement = try placement(nodes(5), distribution)
        var counts: [[Int]: Int] = [:]
        for number in 0..<10_000 {
            let pair = "key-\(number)".withRaw { placement.successors($0, count: 2) }
            counts[pair, default: 0] += 1
        }
        #expect(counts.count == 20)
        #expect(counts.values.allSatisfy { $0 > 80 }, "\(counts)")
    }

    @Test("taking a node out only moves up what came after it", arguments: [Distribution.ketama, .modula])
    func successorsAreStable(_ distribution: Distribution) throws {
        let all = nodes(6)
        let before = try placement(all, distribution)
        let removed = 2
        let after = try placement(all.enumerated().filter { $0.offset != removed }.map(\.element), distribution)
        for number in 0..<1000 {
            "key-\(number)".withRaw { key in
                let old = before.successors(key, count: 6).filter { $0 != removed }.map { all[$0].ringName }
                let new = after.successors(key, count: 5).map { after.nodes[$0].ringName }
                if distribution == .ketama {
                    #expect(new == old)
                } else {
                    // modula's home moves; the order of the others must not depend on it.
                    let home = [old[0], new[0]]
                    #expect(old.filter { !home.contains($0) } == new.filter { !home.contains($0) })
                }
            }
        }
    }

    @Test("a node too light for a point owns no key but can hold copies")
    func lightNode() throws {
        let placement = try Placement(
            nodes: [PlacementNode(ringName: "light", weight: 1), PlacementNode(ringName: "heavy", weight: 500)],
            hash: .md5, distribution: .ketama, hashTag: nil)
        "k".withRaw { key in
            #expect(placement.successors(key, count: 2) == [1, 0])
        }
    }

    // MARK: - What makes no placement

    @Test("bad nodes are refused by name and place")
    func refusals() {
        func code(_ nodes: [PlacementNode], _ distribution: Distribution = .ketama) -> PlacementError.Code? {
            do {
                _ = try placement(nodes, distribution)
                return nil
            } catch let error as PlacementError {
                #expect(error.message.contains("expected") || error.code == .noPoints)
                return error.code
            } catch {
                return nil
            }
        }
        func node(_ name: String, _ weight: Int = 1) -> PlacementNode { PlacementNode(ringName: name, weight: weight) }
        #expect(code([]) == .noNodes)
        #expect(code(nodes(1025)) == .tooManyNodes)
        #expect(code([node("a", 0)]) == .weightOutOfRange)
        #expect(code([node("a", -1)]) == .weightOutOfRange)
        #expect(code([node("a", .max), node("b", .max)]) == .weightOutOfRange)
        #expect(code([node("a", 1 << 20), node("b")], .modula) == .weightOutOfRange)
        #expect(code([node("")]) == .ringNameEmpty)
        #expect(code([node("a"), node("a")]) == .ringNameTwice)
        #expect(code([node("a")], .random) == .notDeterministic)
        #expect(code([node(String(repeating: "n", count: 82))]) == nil)
        #expect(code([node(String(repeating: "n", count: 83))]) == .ringNameTooLong)
    }
}
