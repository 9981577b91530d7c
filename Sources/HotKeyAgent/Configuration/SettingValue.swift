import HotKeyRegistry
import ZooKeeper

/// A setting's value outside the program: as a source states it and as `check` shows it.
enum SettingValue: Sendable, Hashable {
    case absent
    /// From a flag or a variable, where everything is text: each type reads it as it likes.
    case word(String)
    case integer(Int)
    case boolean(Bool)
    case text(String)
    case list([String])
    /// What no setting takes: a fraction, a mapping, a list of other than text.
    case unsuitable

    /// For people and for errors.
    var description: String {
        switch self {
        case .absent: "none"
        case .word(let text), .text(let text): text
        case .integer(let number): "\(number)"
        case .boolean(let value): "\(value)"
        case .list(let elements): elements.joined(separator: ",")
        case .unsuitable: "something else"
        }
    }

    /// The elements of a list, written as one or as words with commas between.
    var commaSeparated: [String]? {
        switch self {
        case .list(let elements): elements
        case .word(let text), .text(let text):
            text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        default: nil
        }
    }
}

extension SettingValue {
    /// A list's elements as one text; nil for what is no list.
    var elements: String? {
        if case .list = self { description } else { nil }
    }
}

extension SettingValue: Codable {
    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .absent
        } else if let value = try? container.decode(Bool.self) {
            self = .boolean(value)
        } else if let number = try? container.decode(Int.self) {
            self = .integer(number)
        } else if let text = try? container.decode(String.self) {
            self = .text(text)
        } else if let elements = try? container.decode([String].self) {
            self = .list(elements)
        } else {
            self = .unsuitable
        }
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .absent: try container.encodeNil()
        case .word(let text), .text(let text): try container.encode(text)
        case .integer(let number): try container.encode(number)
        case .boolean(let value): try container.encode(value)
        case .list(let elements): try container.encode(elements)
        case .unsuitable: try container.encodeNil()
        }
    }
}

/// How a setting's value is read and shown. `expected` completes "expected …" and stands in the documentation.
struct SettingType<Value: Sendable & Equatable>: Sendable {
    /// As the value is called in help: `HOST:PORT`.
    var placeholder: String
    var expected: String
    /// nil for what is not `expected`.
    var parse: @Sendable (SettingValue) -> Value?
    var show: @Sendable (Value) -> SettingValue

    /// The same, for a setting that may be left without a value.
    var optional: SettingType<Value?> {
        SettingType<Value?>(
            placeholder: placeholder, expected: expected,
            parse: { parse($0).map(Optional.some) },
            show: { $0.map(show) ?? .absent })
    }
}

extension SettingType {
    private static func text(
        _ placeholder: String, expected: String, parse: @escaping @Sendable (String) -> Value?,
        show: @escaping @Sendable (Value) -> String
    ) -> SettingType {
        SettingType(
            placeholder: placeholder, expected: expected,
            parse: { value in
                switch value {
                case .word(let text), .text(let text): parse(text)
                default: nil
                }
            },
            show: { .text(show($0)) })
    }
}

extension SettingType where Value == Int {
    static func integer(_ range: ClosedRange<Int>) -> SettingType {
        SettingType(
            placeholder: "N", expected: "an integer from \(range.lowerBound) to \(range.upperBound)",
            parse: { value in
                let number: Int? =
                    switch value {
                    case .integer(let number): number
                    case .word(let text): Int(text)
                    default: nil
                    }
                return number.flatMap { range.contains($0) ? $0 : nil }
            },
            show: { .integer($0) })
    }
}

extension SettingType where Value == Bool {
    static let boolean = SettingType(
        placeholder: "", expected: "true or false",
        parse: { value in
            switch value {
            case .boolean(let value): value
            case .word("true"): true
            case .word("false"): false
            default: nil
            }
        },
        show: { .boolean($0) })
}

extension SettingType where Value == [TopologyDocument.Node] {
    /// As `hkctl init` takes them.
    static let cacheNodes = SettingType(
        placeholder: "NAME=HOST:PORT[:WEIGHT],…", expected: "NAME=HOST:PORT[:WEIGHT],…, names and addresses each once",
        parse: { value in
            guard let words = value.commaSeparated else { return nil }
            let nodes = words.compactMap { TopologyDocument.Node(argument: $0) }
            guard nodes.count == words.count, (try? TopologyDocument(nodes: nodes).validateWhole()) != nil else {
                return nil
            }
            return nodes
        },
        show: { $0.isEmpty ? .absent : .list($0.map(\.argument)) })
}

extension SettingType where Value == String {
    private static func named(
        _ placeholder: String, expected: String, check: @escaping @Sendable (String) throws -> Void
    ) -> SettingType {
        text(placeholder, expected: expected, parse: { (try? check($0)) == nil ? nil : $0 }, show: { $0 })
    }

    static let app = named(
        "NAME", expected: "1 to \(RegistryLimits.appNameBytesMax) letters, digits, \".\", \"_\" or \"-\"",
        check: { _ = try AppName($0) })

    static let agentID = named(
        "NAME", expected: "1 to \(RegistryLimits.agentIDBytesMax) letters, digits, \".\", \"_\", \"-\" or \":\"",
        check: { _ = try AgentID($0) })

    /// A znode that can be a parent.
    static let znodePath = named(
        "PATH", expected: "the path of a znode, such as /hotkeys, without a slash at its end, not under /zookeeper",
        check: { _ = try RegistryPaths(root: $0, app: "any") })

    /// Taken from the working directory when it is not absolute.
    static let file = named(
        "FILE", expected: "the path of a file",
        check: { text in
            guard !text.isEmpty, text.utf8.allSatisfy({ $0 >= 0x20 }) else {
                throw ConfigurationError(.invalid, ["not a path"])
            }
        })

    /// Also for directories: what ends in a slash loses it.
    static func absolutePath(_ placeholder: String) -> SettingType {
        text(
            placeholder, expected: "an absolute path",
            parse: { text in
                guard text.hasPrefix("/"), text.utf8.allSatisfy({ $0 >= 0x20 }) else { return nil }
                let trimmed = text.reversed().drop { $0 == "/" }.reversed()
                return trimmed.isEmpty ? "/" : String(trimmed)
            },
            show: { $0 })
    }
}

extension SettingType where Value == Int {
    /// Three octal digits; in the file as a text, because YAML would take a number for a decimal one.
    static let permissions = SettingType(
        placeholder: "MODE", expected: "octal permissions in quotes, from \"0600\" to \"0777\"",
        parse: { value in
            let text: String? =
                switch value {
                case .word(let text), .text(let text): text
                default: nil
                }
            guard let text, (3...4).contains(text.utf8.count), let mode = Int(text, radix: 8),
                (0o600...0o777).contains(mode), mode & 0o600 == 0o600
            else { return nil }
            return mode
        },
        show: { .text("0" + String($0, radix: 8)) })
}

extension SettingType where Value == [String] {
    /// Whether Redis has them is checked where the one that is wrong can be named.
    static let commands = SettingType(
        placeholder: "COMMAND,…", expected: "names of Redis commands, such as flushall or config|set",
        parse: { value in
            guard let names = value.commaSeparated, !names.contains("") else { return nil }
            return names.map { $0.lowercased() }
        },
        show: { $0.isEmpty ? .absent : .list($0) })
}

extension SettingType where Value == String {
    static let group = named(
        "GROUP", expected: "the name of a group",
        check: { text in
            guard !text.isEmpty, text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: ":") }) else {
                throw ConfigurationError(.invalid, ["not a group"])
            }
        })

    /// As a certificate names its owner.
    static let serverName = named(
        "NAME", expected: "a host name or an IP address",
        check: { text in
            let isName = text.utf8.allSatisfy { $0.isLetterOrDigit || [0x2d, 0x2e, 0x3a, 0x5f].contains($0) }
            guard (1...253).contains(text.utf8.count), isName else {
                throw ConfigurationError(.invalid, ["not a name"])
            }
        })
}

extension SettingType where Value == HostPort {
    private static func hostPort(_ expected: String, portMin: Int) -> SettingType {
        text(
            "HOST:PORT", expected: expected,
            parse: { HostPort($0).flatMap { $0.port >= portMin ? $0 : nil } }, show: { $0.description })
    }

    static let listener = hostPort("HOST:PORT (port 0: any free one)", portMin: 0)
    static let remote = hostPort("HOST:PORT", portMin: 1)
}

extension SettingType where Value == [HostPort] {
    static let servers = SettingType(
        placeholder: "HOST:PORT,…",
        expected: "HOST:PORT,… (at most \(ZooKeeperLimits.serversMax); a path above all znodes goes into the root)",
        parse: { value in
            guard let words = value.commaSeparated else { return nil }
            let servers = words.compactMap { HostPort($0) }.filter { $0.port > 0 }
            let isValid = servers.count == words.count && (1...ZooKeeperLimits.serversMax).contains(servers.count)
            return isValid ? servers : nil
        },
        show: { .list($0.map(\.description)) })
}

extension SettingType where Value == ListenAddress {
    static let listenAddress = text(
        "ADDRESS",
        expected: "HOST:PORT (port 0: any free one) or unix:PATH, an absolute path of at most "
            + "\(ListenAddress.unixPathBytesMax) bytes",
        parse: { ListenAddress($0) }, show: { $0.description })
}

extension SettingType where Value: RawRepresentable<String> & CaseIterable {
    static var choice: SettingType {
        let names = Value.allCases.map(\.rawValue)
        return text(
            names.joined(separator: "|"),
            expected: names.dropLast().joined(separator: ", ") + " or " + (names.last ?? ""),
            parse: { Value(rawValue: $0) }, show: { $0.rawValue })
    }
}
