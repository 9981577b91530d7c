import StrictCoding

/// `/<app>`: marks the app as initialised and says which schema its znodes follow.
public struct AppDocument: RegistryDocument {
    public static let bytesMax = RegistryLimits.appBytesMax
    public var schema: Int

    public init() { schema = RegistryLimits.schema }

    private enum CodingKeys: String, CodingKey, CaseIterable { case schema }
    public func validate() throws { try requireSchema() }
}

/// `/<app>/control`: the fleet-wide switches.
public struct ControlDocument: RegistryDocument {
    public enum Mode: String, Codable, Sendable, Hashable, CaseIterable {
        /// Every agent is a plain proxy.
        case off
        /// Hot keys are found and shown; nothing is done about them.
        case observe
        /// Hot keys are found and the rules' actions are taken.
        case mitigate
    }
    public enum Detection: String, Codable, Sendable, Hashable, CaseIterable {
        /// The elected agent merges the agents' reports.
        case embedded
        /// Another system (Flink) detects and writes `sources/`.
        case external
    }

    public static let bytesMax = RegistryLimits.controlBytesMax
    public var schema: Int
    public var mode: Mode
    public var detection: Detection
    /// No rule may let a value be served longer than this after it changed at home.
    public var stalenessCapMilliseconds: Int

    public init(mode: Mode = .mitigate, detection: Detection = .embedded, stalenessCapMilliseconds: Int = 5_000) {
        schema = RegistryLimits.schema
        self.mode = mode
        self.detection = detection
        self.stalenessCapMilliseconds = stalenessCapMilliseconds
    }

    private enum CodingKeys: String, CodingKey, CaseIterable {
        case schema, mode, detection, stalenessCapMilliseconds
    }

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        let defaults = ControlDocument()
        schema = try fields.decode(Int.self, forKey: .schema)
        mode = try fields.decode(Mode.self, forKey: .mode)
        detection = try fields.decode(.detection, default: defaults.detection)
        stalenessCapMilliseconds = try fields.decode(
            .stalenessCapMilliseconds, default: defaults.stalenessCapMilliseconds)
    }

    public func validate() throws {
        try requireSchema()
        try require(
            stalenessCapMilliseconds, in: 0...RegistryLimits.stalenessCapMillisecondsMax, "stalenessCapMilliseconds")
    }
}

/// Decoding a closed list of words, with the list in the error.
extension RawRepresentable where Self: CaseIterable & Decodable, RawValue == String {
    init(wordFrom decoder: any Decoder) throws {
        let word = try decoder.singleValueContainer().decode(String.self)
        guard let value = Self(rawValue: word) else {
            let words = Self.allCases.map { "\"\($0.rawValue)\"" }
            throw FieldProblem(expected: "one of \(words.joined(separator: ", "))")
        }
        self = value
    }
}

extension ControlDocument.Mode {
    public init(from decoder: any Decoder) throws { try self.init(wordFrom: decoder) }
}

extension ControlDocument.Detection {
    public init(from decoder: any Decoder) throws { try self.init(wordFrom: decoder) }
}
