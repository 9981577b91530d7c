import ArgumentParser
import Foundation
import HotKeyAgent

/// A flag for every setting.
///
/// ArgumentParser finds a type's options in its mirror and fills them by decoding it. Both are written out here, so that
/// the options are made from ``Setting/all`` instead of repeating it as properties.
struct SettingFlags: ParsableArguments, CustomReflectable {
    /// What the command line states, by ``Setting/flag``.
    private(set) var values: [String: String] = [:]

    init() {}

    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: FlagKey.self)
        for setting in Setting.all {
            guard !setting.isSwitch else {
                let isOn = try container.decode(Flag<Bool>.self, forKey: FlagKey(setting.flag)).wrappedValue
                values[setting.flag] = isOn ? "true" : nil
                continue
            }
            let option = try container.decode(Option<String?>.self, forKey: FlagKey(setting.flag))
            values[setting.flag] = option.wrappedValue
        }
    }

    var customMirror: Mirror {
        Mirror(
            self,
            children: Setting.all.map { setting in
                let help = ArgumentHelp(stringLiteral: setting.flagHelp)
                guard !setting.isSwitch else {
                    return (setting.flag, Flag<Bool>(wrappedValue: false, name: .customLong(setting.flag), help: help))
                }
                return (setting.flag, Self.option(setting, help))
            })
    }

    private static func option(_ setting: Setting, _ help: ArgumentHelp) -> Option<String?> {
        var help = help
        help.valueName = setting.placeholder
        return Option<String?>(name: .customLong(setting.flag), help: help)
    }

    private struct FlagKey: CodingKey {
        let stringValue: String
        var intValue: Int? { nil }

        init(_ flag: String) { stringValue = flag }
        init?(stringValue: String) { self.init(stringValue) }
        init?(intValue: Int) { nil }
    }
}

/// What both `run` and `check` take.
struct ConfigurationOptions: ParsableArguments {
    @Option(
        name: .customLong("config"),
        help: ArgumentHelp(
            "The configuration file, YAML. (environment: \(ConfigurationLoader.fileVariable))", valueName: "FILE"))
    var file: String?

    @OptionGroup(title: "Settings")
    var settings: SettingFlags

    func load() throws -> EffectiveConfiguration {
        try ConfigurationLoader(
            flags: settings.values, environment: ProcessInfo.processInfo.environment, file: file
        ).load()
    }
}
