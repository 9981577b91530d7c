import ArgumentParser
import Foundation
import HotKeyRegistry
import ZooKeeper

/// What every verb takes.
struct GlobalOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "ZooKeeper's servers, with a chroot if there is one. (default: 127.0.0.1:2181)",
            valueName: "host:port,…[/chroot]"))
    var zookeeper: String?

    @Option(
        help: ArgumentHelp("The node that holds the apps. (default: \(RegistryPaths.defaultRoot))", valueName: "path"))
    var root: String?

    @Option(help: ArgumentHelp("The app. May be left out when there is only one.", valueName: "name"))
    var app: String?

    @Option(help: ArgumentHelp("How to print: table or json.", valueName: "form"))
    var output = OutputForm.table

    @Option(help: ArgumentHelp("How long to wait for ZooKeeper, and for each agent.", valueName: "time"))
    var timeout = TimeSpan(milliseconds: ControlLimits.timeoutMillisecondsDefault)

    @OptionGroup(title: "Security Options") var security: SecurityOptions
    @OptionGroup(title: "Security Options") var peers: PeerOptions

    func validate() throws {
        let range = ZooKeeperLimits.operationTimeoutMillisecondsRange
        guard timeout.milliseconds <= range.upperBound else {
            throw ValidationError("--timeout: at most \(TimeText.span(Int64(range.upperBound))).")
        }
    }

    var servers: String { zookeeper ?? Self.environment("HOTKEY_ZOOKEEPER") ?? "127.0.0.1:2181" }
    var rootPath: String { root ?? Self.environment("HOTKEY_ROOT") ?? RegistryPaths.defaultRoot }
    var appName: String? { app ?? Self.environment("HOTKEY_APP") }
    var timeoutMilliseconds: Int { Int(timeout.milliseconds) }

    var place: Place {
        Place(servers: servers, root: rootPath, app: appName, timeoutMilliseconds: timeoutMilliseconds)
    }

    /// A variable that is set to nothing counts as not set.
    static func environment(_ name: String) -> String? {
        ProcessInfo.processInfo.environment[name].flatMap { $0.isEmpty ? nil : $0 }
    }

    /// What an option says, or else the variable.
    static func value(_ option: String?, or variable: String) -> String? { option ?? environment(variable) }

    func print(_ report: some Report) throws {
        Console.write(try output.text(of: report, terminal: .current))
    }
}
