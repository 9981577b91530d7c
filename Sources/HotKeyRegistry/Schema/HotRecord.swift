public import StrictCoding

/// The states a key passes through. Only changes of state are published.
public enum HotState: String, Codable, Sendable, Hashable, CaseIterable {
    case cold
    /// Over the threshold, not confirmed yet; nothing is done with it.
    case candidate
    case hot
    /// Hot, and below the threshold at which it stays so; treated as hot.
    case cooling

    /// Whether agents act on a key in this state.
    public var isActedUpon: Bool { self == .hot || self == .cooling }

    public init(from decoder: any Decoder) throws { try self.init(wordFrom: decoder) }
}

/// What makes a key hot, and with it what may be done about it.
public enum HotKind: String, Codable, Sendable, Hashable, CaseIterable {
    case read
    /// Too many writes: never cached nor copied.
    case write
    /// By the bytes of its replies.
    case big
    /// Most reads find nothing: never copied.
    case missing

    public init(from decoder: any Decoder) throws { try self.init(wordFrom: decoder) }
}

/// Where the copies of a key are on their way from nothing to being read and back.
public enum CopyState: String, Codable, Sendable, Hashable, CaseIterable {
    /// Agents leave tombstones in them and read none.
    case warming
    /// They are there: agents read them, and fill again what has expired.
    case ready
    /// Agents read and fill none; they are deleted next.
    case leaving

    public init(from decoder: any Decoder) throws { try self.init(wordFrom: decoder) }
}

/// What is known of one key that is not cold, as it stands in its bucket.
public struct HotRecord: Codable, Sendable, Hashable, Validating {
    public var key: KeyName
    public var state: HotState
    public var kind: HotKind
    /// Estimates at the time of the change of state: the load now is what the agents report.
    public var readsPerSecond: Double
    public var writesPerSecond: Double
    public var bytesPerSecond: Double
    /// Of the reads: those that find nothing.
    public var missesPerSecond: Double
    /// The most by which the true rate of reads and writes together may be above or below the two rates together.
    public var errorPerSecond: Double
    /// Copies beside the original; nil for what the key's rule says.
    public var copies: Int?
    /// What becomes of the ``copies``, which are given then; nil where nobody manages them: there are none, or agents fill what they find
    /// empty.
    public var copyState: CopyState?
    /// Who proposed the key: `agents`, or the name of a node under `sources/`.
    public var sources: [String]
    /// When it became hot, by the coordinator's clock.
    public var since: Timestamp

    public init(
        key: KeyName, state: HotState, kind: HotKind = .read, readsPerSecond: Double = 0, writesPerSecond: Double = 0,
        bytesPerSecond: Double = 0, missesPerSecond: Double = 0, errorPerSecond: Double = 0, copies: Int? = nil,
        copyState: CopyState? = nil, sources: [String] = [], since: Timestamp
    ) {
        self.key = key
        self.state = state
        self.kind = kind
        self.readsPerSecond = readsPerSecond
        self.writesPerSecond = writesPerSecond
        self.bytesPerSecond = bytesPerSecond
        self.missesPerSecond = missesPerSecond
        self.errorPerSecond = errorPerSecond
        self.copies = copies
        self.copyState = copyState
        self.sources = sources
        self.since = since
    }

    /// Whether the two differ in what agents act on. Rates and times alone are not worth a publication.
    public func differsInState(from other: HotRecord) -> Bool {
        state != other.state || kind != other.kind || copies != other.copies
            || copyState != other.copyState
    }

    /// A key that is cold by itself: the record only says what becomes of its copies, because it is pinned or was hot a moment ago.
    public var isOnlyOfCopies: Bool { state == .candidate && copyState != nil && sources.isEmpty }

    /// Whether this record is worth a publication over the one that stands there: a difference in state, or a source that has not
    /// named the key before.
    func isNews(after former: HotRecord) -> Bool {
        differsInState(from: former) || !Set(sources).isSubset(of: former.sources)
    }

    enum CodingKeys: String, CodingKey, CaseIterable {
        case key, state, kind, readsPerSecond, writesPerSecond, bytesPerSecond, missesPerSecond, errorPerSecond, copies,
            copyState, sources, since
    }

    public init(from decoder: any Decoder) throws {
        try self.init(fields: try decoder.container(keyedBy: CodingKeys.self))
    }

    init(fields: KeyedDecodingContainer<CodingKeys>) throws {
        key = try fields.decode(KeyName.self, forKey: .key)
        state = try fields.decode(HotState.self, forKey: .state)
        kind = try fields.decode(.kind, default: .read)
        readsPerSecond = try fields.decode(.readsPerSecond, default: 0)
        writesPerSecond = try fields.decode(.writesPerSecond, default: 0)
        bytesPerSecond = try fields.decode(.bytesPerSecond, default: 0)
        missesPerSecond = try fields.decode(.missesPerSecond, default: 0)
        errorPerSecond = try fields.decode(.errorPerSecond, default: 0)
        copies = try fields.decodeIfPresent(Int.self, forKey: .copies)
        copyState = try fields.decodeIfPresent(CopyState.self, forKey: .copyState)
        sources = try fields.decode(.sources, default: [])
        since = try fields.decode(Timestamp.self, forKey: .since)
    }

    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: CodingKeys.self)
        try encode(to: &fields)
    }

    /// Rates of zero and what is not known are left out: ten thousand records fit the buckets only when they are short.
    func encode(to fields: inout KeyedEncodingContainer<CodingKeys>) throws {
        try fields.encode(key, forKey: .key)
        try fields.encode(state, forKey: .state)
        try fields.encode(kind, forKey: .kind)
        try fields.encode(readsPerSecond, forKey: .readsPerSecond)
        if writesPerSecond != 0 { try fields.encode(writesPerSecond, forKey: .writesPerSecond) }
        if bytesPerSecond != 0 { try fields.encode(bytesPerSecond, forKey: .bytesPerSecond) }
        if missesPerSecond != 0 { try fields.encode(missesPerSecond, forKey: .missesPerSecond) }
        if errorPerSecond != 0 { try fields.encode(errorPerSecond, forKey: .errorPerSecond) }
        try fields.encodeIfPresent(copies, forKey: .copies)
        try fields.encodeIfPresent(copyState, forKey: .copyState)
        if !sources.isEmpty { try fields.encode(sources, forKey: .sources) }
        try fields.encode(since, forKey: .since)
    }

    public func validate() throws {
        try require(
            state != .cold, "state", expected: "\"candidate\", \"hot\" or \"cooling\": a cold key has no record")
        for (name, rate) in [
            ("readsPerSecond", readsPerSecond), ("writesPerSecond", writesPerSecond),
            ("bytesPerSecond", bytesPerSecond), ("missesPerSecond", missesPerSecond),
            ("errorPerSecond", errorPerSecond),
        ] {
            try require(rate >= 0 && rate <= 1e15, .field(name), expected: "a rate of 0 or more")
        }
        if let copies { try require(copies, in: 0...RegistryLimits.copiesMax, "copies") }
        try require(
            copyState == nil || (copies ?? 0) > 0, "copyState",
            expected: "\"copies\" of 1 or more beside it: a state of copies without a number says nothing")
        try require(
            sources.count <= RegistryLimits.sourceNamesPerRecordMax
                && sources.allSatisfy { ZnodeName.isValid($0, bytesMax: RegistryLimits.agentIDBytesMax) },
            "sources", expected: "at most \(RegistryLimits.sourceNamesPerRecordMax) names of sources")
    }
}

/// One change of state, as the head carries the latest of them.
public struct HotChange: Codable, Sendable, Hashable {
    /// The version of the publication that brought it.
    public var version: Int64
    public var key: KeyName
    /// The key's record from then on, nil when it went cold.
    public var record: HotRecord?

    public init(version: Int64, key: KeyName, record: HotRecord?) {
        self.version = version
        self.key = key
        self.record = record
    }

    /// The fields of a record and `version`, in one mapping. `version` is a type of key of its own so that decoding a
    /// record still refuses it.
    private enum CodingKeys: String, CodingKey, CaseIterable {
        case version, key, state, kind, readsPerSecond, writesPerSecond, bytesPerSecond, missesPerSecond,
            errorPerSecond, copies, copyState, sources, since
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        version = try fields.decode(Int64.self, forKey: .version)
        key = try fields.decode(KeyName.self, forKey: .key)
        let state = try fields.decode(HotState.self, forKey: .state)
        if state == .cold {
            for field in fields.allKeys where ![.version, .key, .state].contains(field) {
                throw FieldProblem(at: [.field(field.stringValue)], expected: "no such field for a key that is cold")
            }
            return
        }
        record = HotRecord(
            key: key, state: state, kind: try fields.decode(.kind, default: .read),
            readsPerSecond: try fields.decode(.readsPerSecond, default: 0),
            writesPerSecond: try fields.decode(.writesPerSecond, default: 0),
            bytesPerSecond: try fields.decode(.bytesPerSecond, default: 0),
            missesPerSecond: try fields.decode(.missesPerSecond, default: 0),
            errorPerSecond: try fields.decode(.errorPerSecond, default: 0),
            copies: try fields.decodeIfPresent(Int.self, forKey: .copies),
            copyState: try fields.decodeIfPresent(CopyState.self, forKey: .copyState),
            sources: try fields.decode(.sources, default: []),
            since: try fields.decode(Timestamp.self, forKey: .since))
        try record?.validate()
    }

    public func encode(to encoder: any Encoder) throws {
        var fields = encoder.container(keyedBy: CodingKeys.self)
        try fields.encode(version, forKey: .version)
        if let record {
            // A second container of the same encoder writes into the same mapping.
            try record.encode(to: encoder)
        } else {
            try fields.encode(key, forKey: .key)
            try fields.encode(HotState.cold, forKey: .state)
        }
    }
}
