/// How a key's hash chooses a node; the names are twemproxy's.
public enum Distribution: String, CaseIterable, Sendable {
    case ketama
    case modula
    /// twemproxy sends each request anywhere; `Placement` refuses it.
    case random
}

/// One node as the placement sees it.
public struct PlacementNode: Sendable, Hashable {
    /// The name that is hashed onto the ring: the server's name in twemproxy's configuration or, without one, what
    /// `defaultRingName(host:port:)` gives.
    public var ringName: String
    public var weight: Int

    public init(ringName: String, weight: Int) {
        self.ringName = ringName
        self.weight = weight
    }

    /// The ring name that twemproxy gives a server without a name: `host:port`, but `host` alone for port 11211.
    public static func defaultRingName(host: String, port: Int) -> String {
        port == 11211 ? host : "\(host):\(port)"
    }
}

/// A list of nodes that no placement can be made of.
public struct PlacementError: Error, Sendable, Hashable, CustomStringConvertible {
    public enum Code: Sendable, Hashable, CaseIterable {
        case noNodes
        case tooManyNodes
        case weightOutOfRange
        case ringNameEmpty
        case ringNameTooLong
        case ringNameTwice
        case notDeterministic
        case noPoints
    }

    public let code: Code
    /// What is wrong, where, and what was expected.
    public let message: String

    public var description: String { message }
}

/// Which node owns a key, as twemproxy 0.5.0 decides it for the same nodes, hash, distribution and hash tag.
///
/// Immutable. `home` looks at one or two points of the ring in the mean (ketama) or divides once (modula), and allocates
/// nothing. Source: the behaviour of twemproxy, checked against vectors that its 0.5.0 build produced.
public final class Placement: Sendable, Equatable {
    private struct HashTag: Sendable, Equatable {
        var open: UInt8
        var close: UInt8
    }

    /// Points in order of value (ketama); empty for modula.
    private let ringValues: [UInt32]
    /// By the upper bits of a value: the first point at or after the least such value, so that few are left to be searched.
    private let firstPoints: [UInt32]
    /// The owner of each point (ketama), or of each unit of weight (modula).
    private let owners: [Int32]
    private let hash: KeyHash
    private let distribution: Distribution
    private let hashTag: HashTag?
    private let nodeSalts: [UInt64]

    public let nodes: [PlacementNode]

    public static func == (left: Placement, right: Placement) -> Bool {
        left === right
            || left.nodes == right.nodes && left.hash == right.hash && left.distribution == right.distribution
                && left.hashTag == right.hashTag
    }

    /// - Parameter hashTag: the two bytes between which a key's hashed part stands, or nil to hash whole keys.
    /// - Throws: `PlacementError` when the nodes make no placement, or twemproxy's own would be undefined.
    public init(
        nodes: [PlacementNode], hash: KeyHash, distribution: Distribution, hashTag: (UInt8, UInt8)?
    ) throws(PlacementError) {
        try Self.validate(nodes)
        switch distribution {
        case .random:
            throw PlacementError(
                code: .notDeterministic,
                message: "distribution \"random\": twemproxy sends every request to any node, so no key has a home; "
                    + "expected \"ketama\" or \"modula\"")
        case .ketama:
            (ringValues, owners) = try Self.ring(nodes)
        case .modula:
            ringValues = []
            owners = Self.twemproxyOrder(nodes).flatMap { [Int32](repeating: Int32($0), count: nodes[$0].weight) }
        }
        firstPoints = Self.firstPoints(of: ringValues)
        self.nodes = nodes
        self.hash = hash
        self.distribution = distribution
        self.hashTag = hashTag.map { HashTag(open: $0.0, close: $0.1) }
        nodeSalts = nodes.map { node in
            let digest = Array(node.ringName.utf8).withUnsafeBytes { MD5.digest($0) }
            return UInt64(digest.0) << 32 | UInt64(digest.1)
        }
    }

    /// The index in `nodes` of the node that owns `key`.
    public func home(_ key: UnsafeRawBufferPointer) -> Int {
        if nodes.count == 1 { return 0 }
        let value = hash.hash(hashedPart(key))
        return Int(owners[distribution == .ketama ? point(value) : Int(value) % owners.count])
    }

    /// The nodes for a key and its copies: home first, all distinct, at most `count` and at most all nodes.
    ///
    /// With ketama they follow clockwise on the ring, so taking a node out moves up only what came after it. With modula they
    /// follow by rendezvous hashing, which has the same property among the copies (home itself moves, as modula's does).
    /// Every agent must compute the same order, so nothing here depends on the process.
    public func successors(_ key: UnsafeRawBufferPointer, count: Int) -> [Int] {
        let wanted = min(max(count, 0), nodes.count)
        guard wanted > 0 else { return [] }
        let home = home(key)
        var found = [home]
        found.reserveCapacity(wanted)
        let value = hash.hash(hashedPart(key))
        if distribution == .ketama, nodes.count > 1 {
            var position = point(value)
            for _ in 0..<owners.count where found.count < wanted {
                let owner = Int(owners[position])
                if !found.contains(owner) { found.append(owner) }
                position = position + 1 == owners.count ? 0 : position + 1
            }
        }
        if found.count < wanted {
            // modula, or nodes whose weight is too small for a point of their own.
            let others = nodes.indices.filter { !found.contains($0) }
                .map { (score: Self.spread(UInt64(value) ^ nodeSalts[$0]), index: $0) }
                .sorted { ($0.score, $1.index) > ($1.score, $0.index) }
            found += others.prefix(wanted - found.count).map(\.index)
        }
        return found
    }

    /// Whether a hash tag decides where this key lives, and every key that begins with it.
    public func hasTag(_ key: UnsafeRawBufferPointer) -> Bool { hashedPart(key).count < key.count }

    /// The part of the key that is hashed. A tag that is not closed, or is empty, is no tag.
    private func hashedPart(_ key: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        guard let hashTag else { return key }
        let start = Self.place(of: hashTag.open, in: key, from: 0) + 1
        guard start < key.count else { return key }
        let close = Self.place(of: hashTag.close, in: key, from: start)
        guard close < key.count, close > start else { return key }
        return UnsafeRawBufferPointer(rebasing: key[start..<close])
    }

    /// `key.count` when it is not there.
    private static func place(of byte: UInt8, in key: UnsafeRawBufferPointer, from start: Int) -> Int {
        // Eight at a time: a byte of `differences` is zero where the key has it, and then its top bit comes out in `found` (and
        // may come out behind it, which is looked at byte by byte).
        let ones: UInt64 = 0x0101_0101_0101_0101
        let wanted = UInt64(byte) &* ones
        var index = start
        while index + 8 <= key.count {
            let differences = key.loadUnaligned(fromByteOffset: index, as: UInt64.self) ^ wanted
            let found = (differences &- ones) & ~differences & (ones << 7)
            if found != 0 { break }
            index += 8
        }
        while index < key.count, key[index] != byte { index += 1 }
        return index
    }

    /// The first point at or after `value`, or the first of all.
    private func point(_ value: UInt32) -> Int {
        let slice = Int(value >> Self.sliceShift(pointCount: ringValues.count))
        var low = Int(firstPoints[slice])
        var high = Int(firstPoints[slice + 1])
        // Hashes that leave most of the ring unused crowd the points of a slice; else three of four have none, and nothing is compared.
        while low < high {
            let middle = (low + high) / 2
            if ringValues[middle] < value { low = middle + 1 } else { high = middle }
        }
        return low == ringValues.count ? 0 : low
    }

    /// Slices of equal width, at least four times as many as points: which of two points is the next is a branch that nobody can guess,
    /// and costs as much as all the rest.
    private static func sliceShift(pointCount: Int) -> Int {
        32 - min(32, Int.bitWidth - max(1, 4 * pointCount - 1).leadingZeroBitCount)
    }

    private static func firstPoints(of values: [UInt32]) -> [UInt32] {
        let shift = sliceShift(pointCount: values.count)
        var first: [UInt32] = []
        for (point, value) in values.enumerated() {
            while first.count <= Int(value >> shift) { first.append(UInt32(point)) }
        }
        let slices = 1 << (32 - shift)
        while first.count <= slices { first.append(UInt32(values.count)) }
        return first
    }

    /// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): written out because its values are a contract among agents.
    private static func spread(_ value: UInt64) -> UInt64 {
        var value = value &+ 0x9e37_79b9_7f4a_7c15
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }

    // MARK: - Construction

    private static func validate(_ nodes: [PlacementNode]) throws(PlacementError) {
        guard !nodes.isEmpty else {
            throw PlacementError(code: .noNodes, message: "nodes: the list is empty; expected at least one node")
        }
        guard nodes.count <= HotKeyMitigationLimits.placementNodes else {
            throw PlacementError(
                code: .tooManyNodes,
                message: "nodes: \(nodes.count) nodes; expected at most \(HotKeyMitigationLimits.placementNodes)")
        }
        var names: Set<String> = []
        var weightSum = 0
        for (index, node) in nodes.enumerated() {
            if node.ringName.isEmpty {
                throw PlacementError(
                    code: .ringNameEmpty,
                    message: "nodes[\(index)].ringName: empty; expected \"host:port\" or the server's name")
            }
            if !names.insert(node.ringName).inserted {
                throw PlacementError(
                    code: .ringNameTwice,
                    message: "nodes[\(index)].ringName: \"\(node.ringName)\" stands twice; expected distinct names, "
                        + "or both nodes would claim the same points")
            }
            guard (1...HotKeyMitigationLimits.placementWeightSum).contains(node.weight) else {
                throw PlacementError(
                    code: .weightOutOfRange,
                    message: "nodes[\(index)].weight: \(node.weight); expected 1 to "
                        + "\(HotKeyMitigationLimits.placementWeightSum)")
            }
            weightSum += node.weight
        }
        guard weightSum <= HotKeyMitigationLimits.placementWeightSum else {
            throw PlacementError(
                code: .weightOutOfRange,
                message: "nodes: the weights add up to \(weightSum); expected at most "
                    + "\(HotKeyMitigationLimits.placementWeightSum)")
        }
    }

    /// twemproxy sorts its servers to find doubles, the shorter name first, and numbers them in that order. For modula the
    /// number decides where keys lie; for ketama, which of two equal points counts.
    private static func twemproxyOrder(_ nodes: [PlacementNode]) -> [Int] {
        let names = nodes.map { Array($0.ringName.utf8) }
        return nodes.indices.sorted { left, right in
            names[left].count == names[right].count
                ? names[left].lexicographicallyPrecedes(names[right]) : names[left].count < names[right].count
        }
    }

    private static func ring(_ nodes: [PlacementNode]) throws(PlacementError) -> ([UInt32], [Int32]) {
        let weightSum = nodes.reduce(0) { $0 + $1.weight }
        var points: [(value: UInt32, owner: Int32)] = []
        points.reserveCapacity(nodes.count * HotKeyMitigationLimits.ketamaPointsPerNode)
        for index in twemproxyOrder(nodes) {
            let node = nodes[index]
            let hashes = pointHashes(weight: node.weight, weightSum: weightSum, nodeCount: nodes.count)
            guard hashes > 0 else { continue }
            let longest = node.ringName.utf8.count + 1 + String(hashes - 1).utf8.count
            guard longest <= HotKeyMitigationLimits.ketamaPointNameBytesMax else {
                let most =
                    HotKeyMitigationLimits.ketamaPointNameBytesMax - (longest - node.ringName.utf8.count)
                throw PlacementError(
                    code: .ringNameTooLong,
                    message: "nodes[\(index)].ringName: \(node.ringName.utf8.count) bytes; expected at most \(most), "
                        + "because twemproxy's ring is undefined for longer ones")
            }
            for hash in 0..<hashes {
                let digest = Array("\(node.ringName)-\(hash)".utf8).withUnsafeBytes { MD5.digest($0) }
                for value in [digest.0, digest.1, digest.2, digest.3] { points.append((value, Int32(index))) }
            }
        }
        guard !points.isEmpty else {
            throw PlacementError(
                code: .noPoints, message: "nodes: no node's weight is large enough for a point on the ring")
        }
        // Of two points of the same value the one inserted first counts, as with glibc's merge sort under twemproxy.
        let order = points.indices.sorted { (points[$0].value, $0) < (points[$1].value, $1) }
        return (order.map { points[$0].value }, order.map { points[$0].owner })
    }

    /// How many digests a node puts on the ring. Single precision, in twemproxy's order: with some numbers of equal nodes the
    /// rounding costs each one digest, and the keys lie accordingly.
    private static func pointHashes(weight: Int, weightSum: Int, nodeCount: Int) -> Int {
        let share = Float(weight) / Float(weightSum)
        let scaled =
            share * Float(HotKeyMitigationLimits.ketamaPointsPerNode)
            / Float(HotKeyMitigationLimits.ketamaPointsPerHash) * Float(nodeCount)
        return Int(Float(Double(scaled) + 0.0000000001).rounded(.down))
    }
}
