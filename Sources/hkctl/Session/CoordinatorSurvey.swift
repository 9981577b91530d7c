import HotKeyPeer
import HotKeyRegistry

extension Session {
    /// Asks the agent that coordinates. The failure says why it could not be asked.
    func askCoordinator(
        _ question: @escaping @Sendable (PeerClient) async throws -> LiveStatus
    ) async throws -> Result<LiveStatus, Failure> {
        async let registered = agents()
        let leader = try await registry.candidates().first?.agent
        let agents = try await registered
        guard !agents.isEmpty else {
            return .failure(
                Failure(
                    .failed, "No agent of \(app) is registered, so nobody counts.",
                    "Start one: 'hkagent run --app \(app) …'."))
        }
        guard let leader, let agent = agents.first(where: { $0.id.description == leader }) else {
            return .failure(
                Failure(
                    .failed, "No agent of \(app) coordinates at this moment, so nobody adds up what they count.",
                    "An election takes a few seconds; '\(options.place.hkctl) doctor' tells what is wrong if it lasts.")
            )
        }
        switch await ask([agent], question)[0].result {
        case .success(let status): return .success(status)
        case .failure(let error):
            return .failure(
                Failure(
                    .failed, "\(leader) coordinates and gave no answer: \(error)",
                    "'\(options.place.hkctl) agents' shows the state of each agent."))
        }
    }
}
