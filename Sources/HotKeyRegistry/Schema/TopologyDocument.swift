public import StrictCoding

/// `/<app>/topology`: the cache nodes and how keys are placed on them.
public struct TopologyDocument: RegistryDocument {
    public enum Kind: String, Codable, Sendable, Hashable, CaseIterable {
        /// Independent nodes; the agent places keys as twemproxy does.
        case nodes
        /// A Redis Cluster; the nodes are where to ask for its slots.
        case cluster
    }
    /// twemproxy's names for its hash functions.
    public enum Hash: String, Codable, Sendable, Hashable, CaseIterable {
        case oneAtATime = "one_at_a_time"
        case md5
        case crc16
        case crc32
        case crc32a
        case fnv1_64
        case fnv1a_64
        case fnv1_32
        case fnv1a_32
        case hsieh
        case murmur
        case jenkins
    }
    public enum Distribution: String, Codable, Sendable, Hashable, CaseIterable {
        case ketama
        case modula
    }
    public struct Node: Codable, Sendable, Hashable {
        /// For people: what tools and logs call the node.
        public var name: String
        /// `host:port`.
        public var address: String
        public var weight: Int
        /// What the node is called on the ring; nil for what twemproxy would call it (`host:port:weight`, or `host` on
        /// the default port of ketama).
        public var ringName: String?

        public init(name: String, address: String, weight: Int = 1, ringName: String? = nil) {
            self.name = name
            self.address = address
            self.weight = weight
            self.ringName = ringName
        }

        private enum CodingKeys: String, CodingKey, CaseIterable { case name, address, weight, ringName }

        public init(from decoder: any Decoder) throws {
            let fields = try decoder.container(keyedBy: CodingKeys.self)
            name = try fields.decode(String.self, forKey: .name)
            address = try fields.decode(String.self, forKey: .address)
            weight = try fields.decode(.weight, default: 1)
            ringName = try fields.decodeIfPresent(String.self, forKey: .ringName)
        }
    }

    public static let bytesMax = RegistryLimits.topologyBytesMax
    public var schema: Int
    public var kind: Kind
    public var nodes: [Node]
    /// Means nothing for a cluster, as do ``distribution`` and ``hashTag``: they are then neither read nor written.
    public var hash: Hash
    public var distribution: Distribution
    /// Two characters; what stands between them in a key is hashed instead of the whole key. Empty for none.
    public var hashTag: String

    public init(
        kind: Kind = .nodes, nodes: [Node], hash: Hash = .fnv1a_64, distribution: Distribution = .ketama,
        hashTag: String = ""
    ) {
        schema = RegistryLimits.schema
        self.kind = kind
        self.nodes = nodes
        self.hash = hash
        self.distribution = distribution
        self.hashTag = hashTag
    }

    private enum CodingKeys: String, CodingKey, CaseIterable {
        case schema, kind, nodes, hash, distribution, hashTag
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        self.init(
            kind: try fields.decode(.kind, default: .nodes), nodes: try fields.decode([Node].self, forKey: .nodes))
        schema = try fields.decode(Int.self, forKey: .schema)
        hash = try fields.decode(.hash, default: hash)
        distribution = try fields.decode(.distribution, default: distribution)
        hashTag = try fields.decode(.hashTag, default: hashTag)
        if kind == .cluster {
            for key in [CodingKeys.hash, .distribution, .hashTag] where fields.contains(key) {
                throw FieldProblem(
                    at: [.field(key.stringValue)], expected: "no such field for a cluster, which places keys itself")
            }
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: CodingKeys.self)
        try fields.encode(schema, forKey: .schema)
        try fields.encode(kind, forKey: .kind)
        try fields.encode(nodes, forKey: .nodes)
        if kind == .nodes {
            try fields.encode(hash, forKey: .hash)
            try fields.encode(distribution, forKey: .distribution)
            try fields.encode(hashTag, forKey: .hashTag)
        }
    }

    public func validate() throws {
        try requireSchema()
        try require(
            (1...RegistryLimits.nodesMax).contains(nodes.count), "nodes",
            expected: "1 to \(RegistryLimits.nodesMax) nodes", found: "\(nodes.count)")
        try require(
            hashTag.isEmpty || hashTag.unicodeScalars.count == 2 && hashTag.utf8.count == 2, "hashTag",
            expected: "two ASCII characters such as \"{}\", or \"\"")
        var names: Set<String> = []
        var addresses: Set<String> = []
        var ringNames: Set<String> = []
        for (index, node) in nodes.enumerated() {
            func at(_ field: String) -> [FieldStep] { ["nodes", .index(index), .field(field)] }
            guard names.insert(node.name).inserted else {
                throw FieldProblem(at: at("name"), expected: "each name once")
            }
            guard addresses.insert(node.address).inserted else {
                throw FieldProblem(at: at("address"), expected: "each address once")
            }
            if let ringName = node.ringName, !ringNames.insert(ringName).inserted {
                throw FieldProblem(at: at("ringName"), expected: "each ring name once")
            }
        }
    }
}

extension TopologyDocument.Node: Validating {
    public func validate() throws {
        try require(
            ZnodeName.isValid(name, bytesMax: RegistryLimits.agentIDBytesMax), "name",
            expected: "1 to \(RegistryLimits.agentIDBytesMax) letters, digits, '.', '_', '-' or ':'")
        try require(
            HostAndPort.isValid(address), "address", expected: "host:port with a port from 1 to 65535")
        try require(weight, in: 1...RegistryLimits.weightMax, "weight")
        if let ringName {
            try require(
                (1...RegistryLimits.agentIDBytesMax * 2).contains(ringName.utf8.count), "ringName",
                expected: "1 to \(RegistryLimits.agentIDBytesMax * 2) bytes")
        }
    }
}

enum HostAndPort {
    /// `10.0.0.1:6379`, `cache-1:6379`, `[::1]:6379`.
    static func isValid(_ text: String) -> Bool {
        guard let colon = text.lastIndex(of: ":") else { return false }
        var host = text[..<colon]
        if host.first == "[", host.last == "]" {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return false
        }
        let port = text[text.index(after: colon)...]
        let isPort = port.utf8.allSatisfy { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }
        return ZnodeName.isValid(host, bytesMax: 255) && isPort && (UInt16(port) ?? 0) > 0
    }
}

extension TopologyDocument.Kind {
    public init(from decoder: any Decoder) throws { try self.init(wordFrom: decoder) }
}

extension TopologyDocument.Hash {
    public init(from decoder: any Decoder) throws { try self.init(wordFrom: decoder) }
}

extension TopologyDocument.Distribution {
    public init(from decoder: any Decoder) throws { try self.init(wordFrom: decoder) }
}
