public import StrictCoding

/// `/<app>/pins`: operators' decisions that override detection, and the last 200 changes.
public struct PinsDocument: RegistryDocument {
    public static let bytesMax = RegistryLimits.pinsBytesMax
    public var schema: Int
    /// Keys that are hot whatever their load. One entry a key.
    public var pins: [PinEntry]
    /// Keys that detection may not make hot. One entry a key. A key that is both pinned and denied is pinned.
    public var denies: [PinEntry]
    /// The newest first.
    public var history: [HistoryEntry]

    public init(pins: [PinEntry] = [], denies: [PinEntry] = [], history: [HistoryEntry] = []) {
        schema = RegistryLimits.schema
        self.pins = pins
        self.denies = denies
        self.history = history
    }

    private enum CodingKeys: String, CodingKey, CaseIterable { case schema, pins, denies, history }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        schema = try fields.decode(Int.self, forKey: .schema)
        pins = try fields.decode(.pins, default: [])
        denies = try fields.decode(.denies, default: [])
        history = try fields.decode(.history, default: [])
    }

    public func validate() throws {
        try requireSchema()
        for (field, entries) in [("pins", pins), ("denies", denies)] {
            var seen: Set<KeyName> = []
            for (index, entry) in entries.enumerated() where !seen.insert(entry.key).inserted {
                throw FieldProblem(at: [.field(field), .index(index), "key"], expected: "each key once")
            }
        }
        try require(
            history.count <= RegistryLimits.historyMax, "history",
            expected: "at most \(RegistryLimits.historyMax) entries", found: "\(history.count)")
    }
}

/// One pin or deny.
public struct PinEntry: Codable, Sendable, Hashable, Validating {
    public var key: KeyName
    /// Copies beside the original; nil for what the key's rule says. Means nothing on a deny.
    public var copies: Int?
    public var author: String
    public var reason: String?
    /// When it was decided, by the author's clock.
    public var at: Timestamp
    /// From then on it counts for nothing; nil for never.
    public var expiresAt: Timestamp?

    public init(
        key: KeyName, copies: Int? = nil, author: String, reason: String? = nil, at: Timestamp,
        expiresAt: Timestamp? = nil
    ) {
        self.key = key
        self.copies = copies
        self.author = author
        self.reason = reason
        self.at = at
        self.expiresAt = expiresAt
    }

    public func isExpired(at now: Timestamp) -> Bool { expiresAt.map { $0 <= now } ?? false }

    private enum CodingKeys: String, CodingKey, CaseIterable { case key, copies, author, reason, at, expiresAt }

    public func validate() throws {
        if let copies { try require(copies, in: 0...RegistryLimits.copiesMax, "copies") }
        try FreeText.validateAuthor(author)
        try FreeText.validateReason(reason)
    }
}

/// One change that an operator made.
public struct HistoryEntry: Codable, Sendable, Hashable, Validating {
    public enum Verb: String, Codable, Sendable, Hashable, CaseIterable {
        case pin, unpin, deny, undeny, mode, rules, topology, `import`
    }
    public var at: Timestamp
    public var author: String
    public var verb: Verb
    /// The key that was pinned, denied …; nil for the verbs that are of no key.
    public var key: KeyName?
    public var reason: String?
    /// In words, what changed: `observe to mitigate`.
    public var detail: String?

    public init(
        at: Timestamp, author: String, verb: Verb, key: KeyName? = nil, reason: String? = nil, detail: String? = nil
    ) {
        self.at = at
        self.author = author
        self.verb = verb
        self.key = key
        self.reason = reason
        self.detail = detail
    }

    private enum CodingKeys: String, CodingKey, CaseIterable { case at, author, verb, key, reason, detail }

    public func validate() throws {
        try FreeText.validateAuthor(author)
        try FreeText.validateReason(reason)
        try require(
            (detail?.utf8.count ?? 0) <= RegistryLimits.reasonBytesMax, "detail",
            expected: "at most \(RegistryLimits.reasonBytesMax) bytes")
    }
}

extension HistoryEntry.Verb {
    public init(from decoder: any Decoder) throws { try self.init(wordFrom: decoder) }
}

enum FreeText {
    static func validateAuthor(_ author: String) throws {
        guard (1...RegistryLimits.authorBytesMax).contains(author.utf8.count) else {
            throw FieldProblem(at: ["author"], expected: "a name of 1 to \(RegistryLimits.authorBytesMax) bytes")
        }
    }

    static func validateReason(_ reason: String?) throws {
        guard (reason?.utf8.count ?? 0) <= RegistryLimits.reasonBytesMax else {
            throw FieldProblem(at: ["reason"], expected: "at most \(RegistryLimits.reasonBytesMax) bytes")
        }
    }
}
