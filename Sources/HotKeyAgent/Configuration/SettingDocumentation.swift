extension Setting {
    /// One line about the setting for a command's help.
    public var flagHelp: String {
        var notes = isRequired ? ["required"] : ["default: \(defaultDescription)"]
        notes.append("environment: \(variable)")
        return "\(help) (\(notes.joined(separator: "; ")))"
    }

    /// The table of all settings in `docs/configuration.md`.
    public static var markdownTable: String {
        var text = """
            | file | flag | environment | value | default | meaning |
            |---|---|---|---|---|---|

            """
        for setting in all {
            let cells = [
                "`\(setting.name)`", "`--\(setting.flag)`", "`\(setting.variable)`", setting.expected,
                setting.isRequired ? "required" : setting.defaultDescription, setting.help,
            ]
            text += "| " + cells.map { $0.replacing("|", with: "\\|") }.joined(separator: " | ") + " |\n"
        }
        return text
    }
}
