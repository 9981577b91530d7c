import ArgumentParser
import Glibc
import HotKeyPeer

@main
struct HKCtl: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "hkctl",
        abstract: "Shows and steers what the fleet knows of an app's hot keys.",
        discussion: """
            The options may stand before or after the verb. A flag overrides its environment variable \
            (HOTKEY_ZOOKEEPER, HOTKEY_ROOT, HOTKEY_APP), which overrides the default. Changes are signed with \
            HOTKEY_AUTHOR, by default USER@HOST. The options for TLS are shown by --help-hidden.

            Exit status: 0 done; 1 failed; 2 wrong usage. The reason stands on standard error.
            """,
        version: HotKeyVersion.current,
        groupedSubcommands: [
            CommandGroup(
                name: "Look",
                subcommands: [
                    Status.self, Top.self, List.self, Get.self, Watch.self, Agents.self, Route.self, Scan.self,
                    History.self,
                ]),
            CommandGroup(name: "Decide", subcommands: [Pin.self, Unpin.self, Deny.self, Undeny.self, SetMode.self]),
            CommandGroup(
                name: "Set up",
                subcommands: [
                    Init.self, Rules.self, Simulate.self, Topology.self, Acl.self, Export.self, Import.self,
                    Doctor.self,
                ]),
        ])

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        throw ValidationError("Say what to do, for example 'hkctl list'.")
    }

    static func main() async {
        do {
            var command = try parseAsRoot()
            if var command = command as? any AsyncParsableCommand {
                try await command.run()
            } else {
                try command.run()
            }
        } catch {
            finish(error)
        }
    }

    private static func finish(_ error: any Error) -> Never {
        if let failure = error as? Failure {
            Console.complain("Error: \(failure)")
            Glibc.exit(failure.status.rawValue)
        }
        let code = exitCode(for: error)
        let message = fullMessage(for: error)
        if code.isSuccess {
            if !message.isEmpty { Console.write(message.hasSuffix("\n") ? message : message + "\n") }
            Glibc.exit(ExitStatus.done.rawValue)
        }
        if !message.isEmpty { Console.complain(message) }
        // ArgumentParser says EX_USAGE (64) where Unix tools say 2.
        Glibc.exit(code == .validationFailure ? ExitStatus.usage.rawValue : ExitStatus.failed.rawValue)
    }
}
