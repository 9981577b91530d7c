import Glibc
import Hummingbird
import Logging
import NIOConcurrencyHelpers
import NIOCore

/// The HTTP side: `/healthz` (the process lives), `/readyz` (it can serve; says why not), `/metrics` (Prometheus).
struct AdminServer: Sendable {
    let address: ListenAddress
    let view: AgentView
    let isDraining: NIOLockedValueBox<Bool>
    let logger: Logger
    /// Whether the agent before this one may still have the address: then it is waited for.
    var takesOver = false

    /// Serves until cancelled, also while the agent shuts down. Throws when it cannot listen.
    func run() async throws {
        let router = Router()
        router.get("/healthz") { _, _ in "ok\n" }
        router.get("/readyz") { [view, isDraining] _, _ -> Response in
            let reasons = view.unreadiness(isDraining: isDraining.withLockedValue { $0 })
            let standalone =
                view.configuration.standalone ? "standalone: no ZooKeeper, nothing is shared with other hosts\n" : ""
            let state = reasons.isEmpty ? "ready\n" + standalone : reasons.map { "not ready: \($0)\n" }.joined()
            let warnings = view.readinessWarnings.map { "warning: \($0)\n" }.joined()
            return Self.text(state + warnings, status: reasons.isEmpty ? .ok : .serviceUnavailable)
        }
        router.get("/metrics") { [view] _, _ -> Response in
            Self.text(
                try await view.metricsText(), status: .ok, contentType: "text/plain; version=0.0.4; charset=utf-8")
        }
        let bound: BindAddress =
            switch address {
            case .tcp(let address): .hostname(address.host, port: address.port)
            case .unix(let path): .unixDomainSocket(path: path)
            }
        // The server logs its own cancellation, which is how it ends, as an error. What keeps it from serving is thrown.
        var quiet = logger
        quiet.logLevel = .critical
        let application = Application(
            router: router,
            configuration: .init(
                address: bound, serverName: "hkagent",
                // Whoever may connect could otherwise take every descriptor of the process.
                availableConnectionsDelegate: .maximum(AgentLimits.adminConnectionsMax, logger: quiet)),
            logger: quiet)
        // A child task would see the agent's graceful shutdown and close its listener at once, while a load balancer that polls
        // /readyz has to be told that the agent is draining. Ended by cancellation, which comes after the drain.
        let serving = Task.detached {
            var retries = 0
            while true {
                do {
                    return try await application.run()
                } catch let error as IOError where takesOver && error.errnoCode == EADDRINUSE {
                    retries += 1
                    if retries == AgentLimits.adminRetriesSilent {
                        logger.warning(
                            """
                            the admin listener's address is taken: there are no health, readiness and metrics until it is free. If \
                            that is no agent which is being replaced, choose another address
                            """, metadata: ["admin": "\(address)", "error": "\(error)"])
                    }
                    try await Task.sleep(for: .milliseconds(AgentLimits.adminRetryMilliseconds))
                }
            }
        }
        try await withTaskCancellationHandler {
            try await serving.value
        } onCancel: {
            serving.cancel()
        }
    }

    private static func text(
        _ text: String, status: HTTPResponse.Status, contentType: String = "text/plain; charset=utf-8"
    ) -> Response {
        Response(
            status: status, headers: [.contentType: contentType],
            body: .init(byteBuffer: ByteBuffer(string: text)))
    }
}
