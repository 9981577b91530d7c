import ArgumentParser
import Glibc
import HotKeyAgent

@main
struct HKAgent: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "hkagent",
        abstract: "The sidecar on each host: finds hot cache keys and takes their load off the cache nodes.",
        discussion: """
            A flag overrides an environment variable, which overrides the configuration file, which overrides the default.
            Exit status: 0 success; 1 failure, such as an invalid configuration file; 2 wrong usage.
            """,
        version: AgentRuntime.version,
        subcommands: [Run.self, Check.self, Settings.self])

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
        if let error = error as? ConfigurationError {
            for problem in error.problems { StandardError.write("error: \(problem)\n") }
            Glibc.exit(Status(error).rawValue)
        }
        let code = exitCode(for: error)
        let message = fullMessage(for: error)
        if code.isSuccess {
            if !message.isEmpty { print(message) }
            Glibc.exit(Status.success.rawValue)
        }
        if !message.isEmpty { StandardError.write(message + "\n") }
        Glibc.exit(code == .validationFailure ? Status.usage.rawValue : code.rawValue)
    }
}

/// The exit status that scripts and unit files rely on.
enum Status: Int32 {
    case success = 0
    case failure = 1
    case usage = 2

    init(_ error: ConfigurationError) {
        self = error.code == .usage ? .usage : .failure
    }
}
