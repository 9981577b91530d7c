import StrictCoding

/// What a configuration file sets. Reading it checks each value against its setting, so that an error names its line.
struct ConfigurationFile: Sendable {
    struct Entry: Sendable {
        var setting: Setting
        var value: SettingValue
        var line: Int
    }

    let path: String
    let entries: [Entry]

    init(_ bytes: [UInt8], path: String) throws(DocumentError) {
        let document = try ParsedDocument(bytes, source: path, bytesMax: ConfigurationLimits.fileBytesMax)
        let root = try document.decode(GroupValues<AgentConfiguration>.self)
        self.path = path
        entries = root.values.map { setting, value in
            let steps = setting.name.split(separator: ".").map { FieldStep.field(String($0)) }
            return Entry(setting: setting, value: value, line: document.position(of: steps).line)
        }
    }
}

/// The fields that a mapping of the file may have: a group's settings and, in the file itself, the groups.
private struct GroupKey<Group: SettingGroup>: CodingKey, CaseIterable {
    enum Meaning {
        case setting(Setting)
        case group(any SettingGroup.Type)
    }

    let stringValue: String
    let meaning: Meaning
    var intValue: Int? { nil }

    private init(_ name: String, _ meaning: Meaning) {
        stringValue = name
        self.meaning = meaning
    }

    init?(stringValue: String) {
        guard let key = Self.allCases.first(where: { $0.stringValue == stringValue }) else { return nil }
        self = key
    }

    init?(intValue: Int) { nil }

    static var allCases: [GroupKey] {
        var keys: [GroupKey] = []
        for setting in Setting.all {
            if setting.group == Group.self {
                keys.append(GroupKey(setting.field, .setting(setting)))
            } else if Group.name.isEmpty, !keys.contains(where: { $0.stringValue == setting.group.name }) {
                keys.append(GroupKey(setting.group.name, .group(setting.group)))
            }
        }
        return keys
    }
}

/// A mapping of the file. Fields without a value count as absent, so that their lines may stay in the file.
private struct GroupValues<Group: SettingGroup>: Decodable {
    private(set) var values: [(setting: Setting, value: SettingValue)] = []

    init(from decoder: any Decoder) throws {
        // A file of comments only is empty.
        if try decoder.singleValueContainer().decodeNil() { return }
        let container = try decoder.container(keyedBy: GroupKey<Group>.self)
        for key in container.allKeys where try !container.decodeNil(forKey: key) {
            switch key.meaning {
            case .group(let group): values += try Self.decode(group, from: container, key)
            case .setting(let setting):
                let value = try container.decode(SettingValue.self, forKey: key)
                var scratch = AgentConfiguration()
                guard setting.set(value, &scratch) else {
                    throw FieldProblem(
                        at: [.field(key.stringValue)], expected: setting.expected,
                        found: value.elements.map(ConfigurationError.quoted))
                }
                values.append((setting, value))
            }
        }
    }

    private static func decode<Inner: SettingGroup>(
        _ group: Inner.Type, from container: KeyedDecodingContainer<GroupKey<Group>>, _ key: GroupKey<Group>
    ) throws -> [(setting: Setting, value: SettingValue)] {
        try container.decode(GroupValues<Inner>.self, forKey: key).values
    }
}
