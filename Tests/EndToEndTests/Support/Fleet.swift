import Foundation
import HotKeyPeer
import HotKeyTestSupport
import Testing

/// One app with everything that belongs to it: real ZooKeeper, real cache nodes, real agents, and `hkctl`.
final class Fleet: Sendable {
    let app: String
    /// One server of the ensemble, or the only one.
    let zookeeper: ZooKeeperServer
    /// Where `hkctl` finds ZooKeeper.
    private let connectString: String
    let caches: [RedisServer]
    let agents: [Agent]
    private let files: TemporaryDirectory

    /// - Parameters:
    ///   - agentsConnectTo: where the agents find ZooKeeper; nil for where `hkctl` does.
    ///   - connectString: where `hkctl` finds ZooKeeper; nil for the server itself.
    init(
        app: String, zookeeper: ZooKeeperServer, caches: [RedisServer], agentIDs: [String],
        agentsConnectTo: String? = nil, connectString: String? = nil, settings: [String: String] = [:]
    ) throws {
        self.app = app
        self.zookeeper = zookeeper
        self.connectString = connectString ?? zookeeper.connectString
        let agentsConnectTo = agentsConnectTo ?? self.connectString
        self.caches = caches
        agents = try agentIDs.map {
            try Agent(
                id: $0, app: app, zookeeper: agentsConnectTo, settings: settings)
        }
        files = try TemporaryDirectory(prefix: "hotkey-e2e")
    }

    var appPorts: [Int] { agents.map(\.appPort) }

    /// `a=127.0.0.1:7001,b=…`
    var nodeList: String {
        zip("abcdefgh", caches).map { "\($0)=\($1.address)" }.joined(separator: ",")
    }

    /// Runs `hkctl` for this app. Throws when its exit status is another than expected.
    @discardableResult
    func control(_ words: String..., status: Int32 = 0) async throws -> String {
        let outcome = try await attempt(words)
        guard outcome.status == status else {
            throw TestSupportError(.process, "hkctl \(words.joined(separator: " ")): \(outcome)")
        }
        return outcome.standardOutput
    }

    /// Runs `hkctl` for this app, whatever becomes of it.
    func attempt(_ words: [String]) async throws -> SpawnedProcess.Outcome {
        try await SpawnedProcess.run(
            try BinaryLocator.path("hkctl"), words,
            environment: ["HOTKEY_ZOOKEEPER": connectString, "HOTKEY_APP": app])
    }

    /// Writes a file that `hkctl` can be given.
    func file(_ name: String, _ text: String) throws -> String { try files.write(text, to: name) }

    /// Makes the app's znodes and starts the agents.
    func start() async throws {
        try await control("init", "--nodes", nodeList)
        try await withThrowingTaskGroup(of: Void.self) { group in
            for agent in agents { group.addTask { try await agent.start() } }
            try await group.waitForAll()
        }
    }

    /// Waits until nothing is left of the fault of an earlier test.
    func waitUntilHealthy() async throws {
        for agent in agents {
            try await agent.whileRunning("agent \(agent.id) is well") {
                let status = try await agent.status()
                return status.view.state == "fresh" && status.nodes.allSatisfy { $0.breaker == "closed" }
            }
        }
        _ = try await leader()
    }

    /// The agent that coordinates; waits for an election that is under way.
    func leader(among agents: [Agent]? = nil) async throws -> Agent {
        try await eventually("a coordinator") {
            for agent in agents ?? self.agents where try await agent.status().leadership == "leader" { return agent }
            return nil
        } until: {
            $0 != nil
        }!
    }

    /// The cache node that owns a key, and its name.
    func home(of key: String) async throws -> (name: String, server: RedisServer) {
        let home = try await agents[0].route(key).home
        let server = try #require(caches.first { $0.address == home.address })
        return (home.name, server)
    }

    /// Waits at all agents at once until each holds a key in a state.
    func waitFor(
        _ key: String, _ awaited: String, at agents: [Agent]? = nil,
        where condition: @escaping @Sendable (KeyStatus) -> Bool
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            for agent in agents ?? self.agents {
                group.addTask { try await agent.waitFor(key, awaited, where: condition) }
            }
            try await group.waitForAll()
        }
    }

    /// Waits until all agents hold a key for hot because the coordinator said so.
    func waitUntilPublished(_ key: String, at agents: [Agent]? = nil) async throws {
        try await waitFor(key, "published as hot", at: agents) { $0.state == "hot" && !$0.isLocalDecision }
    }

    /// Whether an agent's ephemeral node is there, as ZooKeeper itself says.
    func isRegistered(_ id: String) async throws -> Bool {
        try await zookeeper.fourLetterWord("dump").split(separator: "\n")
            .contains { $0.trimmingCharacters(in: .whitespaces) == "/hotkeys/\(app)/agents/\(id)" }
    }

    /// Runs `body` and stops the agents afterwards, also when `body` throws.
    func use(_ body: (Fleet) async throws -> Void) async throws {
        do {
            try await body(self)
        } catch {
            await stopAgents()
            throw error
        }
        await stopAgents()
    }

    /// Stops the agents, which must end by themselves and well.
    func stopAgents() async {
        await withTaskGroup(of: Void.self) { group in
            for agent in agents {
                group.addTask {
                    guard let termination = await agent.stop() else { return }
                    if !termination.isSuccess {
                        Issue.record("agent \(agent.id) ended with \(termination). Log:\n\(agent.log.suffix(8_000))")
                    }
                }
            }
        }
    }
}

/// Rules of the tests: some keys get hot at a rate that a busy machine reaches, too.
let testRules = """
    schema: 1
    rules:
      - pattern: "*"
      - pattern: "warm:*"
        thresholdPerSecond: 300
      - pattern: "served:*"
        thresholdPerSecond: 300
        coolDownSeconds: 2
        minimumHotSeconds: 2
        action: cache
      - pattern: "copied:*"
        thresholdPerSecond: 300
        coolDownSeconds: 2
        minimumHotSeconds: 2
        action: copies
      - pattern: "heated:*"
        thresholdPerSecond: 210
        coolDownSeconds: 2
        minimumHotSeconds: 2
        action: copies
        copiesByHeat: true
      - pattern: "weak:*"
        thresholdPerSecond: 1000000
        thresholdShareOfNode: 0.01
    """
