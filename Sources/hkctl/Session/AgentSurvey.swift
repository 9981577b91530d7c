import HotKeyPeer
import HotKeyRegistry

/// One agent and what it answered.
struct AgentAnswer<Answer: Sendable>: Sendable {
    var id: AgentID
    var document: AgentDocument
    var result: Result<Answer, PeerError>
}

extension Session {
    /// The agents that are registered now, by id.
    func agents() async throws -> [(id: AgentID, document: AgentDocument)] {
        let directory = AgentDirectory(store: client, paths: paths, logger: WarningLog.registry)
        return try await directory.read().map { (id: $0.key, document: $0.value) }.sorted { $0.id < $1.id }
    }

    /// Asks agents at the same time, each over a connection of its own. One that does not answer in time does not hold up
    /// the others. The answers stand in the order of the agents.
    func ask<Answer: Sendable>(
        _ agents: [(id: AgentID, document: AgentDocument)],
        _ question: @escaping @Sendable (PeerClient) async throws -> Answer
    ) async -> [AgentAnswer<Answer>] {
        await withTaskGroup(of: (Int, Result<Answer, PeerError>).self) { group in
            var results: [Int: Result<Answer, PeerError>] = [:]
            for (index, agent) in agents.enumerated() {
                if index >= ControlLimits.agentsAskedAtOnceMax, let (done, result) = await group.next() {
                    results[done] = result
                }
                group.addTask { (index, await ask(agent.document.peer, question)) }
            }
            for await (index, result) in group { results[index] = result }
            return agents.enumerated().compactMap { index, agent in
                results[index].map { AgentAnswer(id: agent.id, document: agent.document, result: $0) }
            }
        }
    }

    /// As ``ask(_:_:)``, but ends with the first answer; without one it returns why each agent gave none.
    func askAny<Answer: Sendable>(
        _ agents: [(id: AgentID, document: AgentDocument)],
        _ question: @escaping @Sendable (PeerClient) async throws -> Answer
    ) async -> (answer: (id: AgentID, value: Answer)?, failures: [PeerError]) {
        await withTaskGroup(of: (AgentID, Result<Answer, PeerError>).self) { group in
            for agent in agents { group.addTask { (agent.id, await ask(agent.document.peer, question)) } }
            defer { group.cancelAll() }
            var failures: [PeerError] = []
            for await (id, result) in group {
                switch result {
                case .success(let value): return ((id, value), failures)
                case .failure(let error): failures.append(error)
                }
            }
            return (nil, failures)
        }
    }

    private func ask<Answer: Sendable>(
        _ peer: String, _ question: @Sendable (PeerClient) async throws -> Answer
    ) async -> Result<Answer, PeerError> {
        guard let address = PeerAddress(peer) else {
            return .failure(PeerError(.badArgument, address: peer, "this is not an address"))
        }
        let configuration = PeerConfiguration(
            connectTimeoutMilliseconds: options.timeoutMilliseconds,
            requestTimeoutMilliseconds: options.timeoutMilliseconds)
        do {
            let client = try await PeerClient.connect(
                to: address, configuration: configuration, security: peerSecurity)
            do {
                let answer = try await question(client)
                await client.close()
                return .success(answer)
            } catch {
                await client.close()
                throw error
            }
        } catch let error as PeerError {
            return .failure(error)
        } catch {
            return .failure(PeerError(.closed, address: peer, "\(error)"))
        }
    }
}
