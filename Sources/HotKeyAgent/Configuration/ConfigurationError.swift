/// Why a configuration was refused: everything that is wrong with it, each line naming the place and what was expected.
public struct ConfigurationError: Error, Sendable, Hashable, CustomStringConvertible {
    public enum Code: Sendable, Hashable {
        /// The command line is wrong or incomplete: a flag's value, or a required setting that nothing sets.
        case usage
        /// The file or the environment is wrong, a file cannot be read, or settings contradict each other.
        case invalid
    }
    public var code: Code
    /// Never empty.
    public var problems: [String]

    init(_ code: Code, _ problems: [String]) {
        self.code = code
        self.problems = problems
    }

    public var description: String { problems.joined(separator: "\n") }
}

/// Where a setting's value comes from.
public enum SettingOrigin: Sendable, Hashable {
    case defaultValue
    case file(path: String, line: Int)
    case environment(variable: String)
    case flag(String)

    /// As `check` shows it.
    public var description: String {
        switch self {
        case .defaultValue: "default"
        case .file(let path, let line): "\(path):\(line)"
        case .environment(let variable): "environment \(variable)"
        case .flag(let flag): "flag --\(flag)"
        }
    }
}

extension ConfigurationError {
    /// One problem of one setting, as `file.yaml:3: peer: expected …, found …` or `--peer: expected …, found …`.
    static func problem(
        _ setting: Setting, from origin: SettingOrigin, expected: String, found: SettingValue
    ) -> String {
        let place: String =
            switch origin {
            case .defaultValue: "\(setting.name) (default)"
            case .file(let path, let line): "\(path):\(line): \(setting.name)"
            case .environment(let variable): variable
            case .flag(let flag): "--\(flag)"
            }
        return "\(place): expected \(expected), found \(quoted(found.description))"
    }

    static func quoted(_ text: String) -> String {
        let shown = text.prefix(ConfigurationLimits.quotedCharactersMax)
        let printable = shown.unicodeScalars.map { $0.value < 0x20 ? "\u{fffd}" : String($0) }.joined()
        return "\"\(printable)\(shown.endIndex == text.endIndex ? "" : "…")\""
    }
}
