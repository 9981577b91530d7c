import ArgumentParser
import HotKeyAgent

extension HKAgent {
    /// What the documentation's table is made with.
    struct Settings: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print the table of all settings.", shouldDisplay: false)

        @Flag(help: "As the table in docs/configuration.md.")
        var markdown = false

        func run() {
            if markdown {
                print(Setting.markdownTable, terminator: "")
            } else {
                for setting in Setting.all { print("\(setting.name)\t--\(setting.flag)\t\(setting.variable)") }
            }
        }
    }
}
