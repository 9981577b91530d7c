import Logging
import RedisProxy
import TransportSecurity

/// Looks at the files of certificates and passwords now and then, and when asked to, so that new ones hold without a restart.
/// Connections that stand go on as they are.
struct SecurityFiles: Sendable {
    let security: AgentSecurity
    let proxy: ProxyServer
    let reloads: AsyncStream<Void>
    let logger: Logger

    /// Until cancelled.
    func run() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for await _ in reloads {
                    logger.notice("looking at the files of certificates and passwords: asked to")
                    try await refresh()
                }
            }
            // Most agents have none: they are not to be woken for it.
            let pause: Duration =
                security.files.isEmpty ? .seconds(86_400) : .milliseconds(AgentLimits.securityFilesCheckMilliseconds)
            while true {
                try await Task.sleep(for: pause)
                try await refresh()
            }
        }
    }

    private func refresh() async throws {
        var hasRenewed = false
        for file in security.files {
            switch file.refresh() {
            case .unchanged: break
            case .renewed:
                hasRenewed = true
                logger.notice("read anew, in use for new connections", metadata: ["files": "\(file.name)"])
            case .refused(let problem):
                logger.error(
                    "a file of certificates or passwords has changed and cannot be used: what was in use before stays in use",
                    metadata: ["problem": "\(problem)"])
            }
        }
        if hasRenewed { try await proxy.disconnectRemovedUsers() }
    }
}
