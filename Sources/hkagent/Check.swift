import ArgumentParser
import HotKeyAgent

extension HKAgent {
    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Validate the configuration and print every setting with where it comes from.",
            discussion: "Secrets are never printed. Nothing is connected to or listened on.")

        enum Output: String, ExpressibleByArgument, CaseIterable {
            case table
            case json
        }

        @Option(help: "How to print the result.")
        var output = Output.table

        @OptionGroup var options: ConfigurationOptions

        func run() throws {
            do {
                let effective = try options.load()
                switch output {
                case .table:
                    for warning in effective.warnings { StandardError.write("warning: \(warning)\n") }
                    print(effective.table, terminator: "")
                case .json: print(try effective.json(), terminator: "")
                }
            } catch let error as ConfigurationError where output == .json {
                print(try error.json(), terminator: "")
                throw ExitCode(Status(error).rawValue)
            }
        }
    }
}
