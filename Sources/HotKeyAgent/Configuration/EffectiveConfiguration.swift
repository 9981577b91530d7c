import StrictCoding

/// A configuration that is valid, and where each value in it comes from.
public struct EffectiveConfiguration: Sendable {
    struct Origin: Sendable {
        var setting: Setting
        var origin: SettingOrigin
    }

    public let configuration: AgentConfiguration
    /// What is allowed but probably not meant. One sentence each.
    public let warnings: [String]
    private let settings: [Origin]

    init(configuration: AgentConfiguration, settings: [Origin], warnings: [String]) {
        self.configuration = configuration
        self.settings = settings
        self.warnings = warnings
    }

    /// The value of a setting as text, and where it comes from; nil for a name that no setting has.
    public func setting(_ name: String) -> (value: String, origin: SettingOrigin)? {
        settings.first { $0.setting.name == name }.map { (shown($0.setting), $0.origin) }
    }

    private func shown(_ setting: Setting) -> String {
        let value = setting.value(configuration)
        let isSecret = setting.namesSecret && value != .absent
        return value.description + (isSecret ? " " + Secret.placeholder : "")
    }

    /// Every setting on a line of its own: name, value, origin.
    public var table: String {
        let rows =
            [["SETTING", "VALUE", "FROM"]]
            + settings.map { row in
                [row.setting.name, shown(row.setting), row.origin.description]
            }
        let widths = (0..<2).map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let cells = (0..<2).map { row[$0] + String(repeating: " ", count: widths[$0] - row[$0].count) }
            return "\(cells[0])  \(cells[1])  \(row[2])\n"
        }.joined()
    }

    /// As `hkagent check --output json` prints it; the form is described in `docs/configuration.md`.
    public func json() throws -> String {
        let report = CheckReport(
            valid: true, problems: [], warnings: warnings,
            settings: settings.map { row in
                let value = row.setting.value(configuration)
                var entry = CheckReport.Entry(name: row.setting.name, value: value, from: "default")
                if row.setting.namesSecret, value != .absent { entry.secret = Secret.placeholder }
                switch row.origin {
                case .defaultValue: break
                case .file(let path, let line): (entry.from, entry.file, entry.line) = ("file", path, line)
                case .environment(let variable): (entry.from, entry.variable) = ("environment", variable)
                case .flag(let flag): (entry.from, entry.flag) = ("flag", flag)
                }
                return entry
            })
        return try report.text()
    }
}

extension ConfigurationError {
    /// As `hkagent check --output json` prints it.
    public func json() throws -> String {
        try CheckReport(valid: false, problems: problems, warnings: [], settings: []).text()
    }
}

/// The document that `hkagent check --output json` prints. Part of the interface: fields are added, never changed.
private struct CheckReport: Encodable {
    struct Entry: Encodable {
        var name: String
        var value: SettingValue
        var secret: String?
        var from: String
        var file: String?
        var line: Int?
        var variable: String?
        var flag: String?

        init(name: String, value: SettingValue, from: String) {
            self.name = name
            self.value = value
            self.from = from
        }
    }

    var valid: Bool
    var problems: [String]
    var warnings: [String]
    var settings: [Entry]

    func text() throws -> String {
        String(decoding: try StrictEncoder.encode(self, indented: true), as: UTF8.self) + "\n"
    }
}
