// The measured side of script/bench reaction: whole agents, each as `hkagent run` makes it, many in one process.
//
// usage: FleetAgents FILE
//
// FILE holds a JSON array with one object for each agent: its settings by the names of their flags. Runs until it is killed; log
// lines of warnings and worse go to standard error.

import Foundation
import HotKeyAgent
import Logging

guard CommandLine.arguments.count == 2 else {
    FileHandle.standardError.write(Data("usage: FleetAgents FILE\n".utf8))
    exit(2)
}
let file = try Data(contentsOf: URL(fileURLWithPath: CommandLine.arguments[1]))
let settings = try JSONDecoder().decode([[String: String]].self, from: file)
LoggingSystem.bootstrap { label in
    var handler = StreamLogHandler.standardError(label: label)
    handler.logLevel = .warning
    return handler
}
try await withThrowingTaskGroup(of: Void.self) { group in
    for flags in settings {
        let configuration = try ConfigurationLoader(flags: flags, environment: [:], file: nil).load().configuration
        let agent = try AgentRuntime(configuration: configuration, logger: Logger(label: configuration.id))
        group.addTask { try await agent.run() }
    }
    try await group.waitForAll()
}
