import ArgumentParser
import Foundation
import HotKeyAgent
import Logging
import ServiceLifecycle
import UnixSignals

extension HKAgent {
    struct Run: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Run the agent until SIGTERM or SIGINT.",
            discussion: "Requests in flight are answered before it exits. Log lines go to standard error.")

        @OptionGroup var options: ConfigurationOptions

        func run() async throws {
            let effective = try options.load()
            let configuration = effective.configuration
            LoggingSystem.bootstrap { label in
                AgentLogHandler(label: label, level: configuration.log.level, format: configuration.log.format)
            }
            let logger = Logger(label: HKAgent._commandName)
            for warning in effective.warnings { logger.warning("\(warning)") }
            do {
                try await Self.serve(configuration, logger: logger)
            } catch {
                logger.critical("the agent stops: \(error)")
                throw ExitCode(Status.failure.rawValue)
            }
        }

        private static func serve(_ configuration: AgentConfiguration, logger: Logger) async throws {
            let (reloads, continuation) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
            async let _ = forwardHangUps(to: continuation)
            var group = ServiceGroupConfiguration(
                services: [
                    try AgentRuntime(
                        configuration: configuration, logger: logger, reloads: reloads,
                        sockets: try InheritedSockets(environment: ProcessInfo.processInfo.environment))
                ],
                gracefulShutdownSignals: [.sigterm, .sigint], logger: logger)
            group.maximumGracefulShutdownDuration = .milliseconds(
                configuration.shutdownGraceMilliseconds + ConfigurationLimits.shutdownMarginMilliseconds)
            try await ServiceGroup(configuration: group).run()
        }

        /// SIGHUP: certificates and passwords have changed.
        private static func forwardHangUps(to reloads: AsyncStream<Void>.Continuation) async {
            for await _ in await UnixSignalsSequence(trapping: .sighup) { reloads.yield() }
        }
    }
}
