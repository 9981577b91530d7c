import HotKeyRegistry
import Logging
import ZooKeeper

/// Where the agent's registry is: in ZooKeeper, or in this process's memory.
enum AgentStore: Sendable {
    case zookeeper(ZooKeeperClient)
    case memory(InMemoryStore)

    init(_ configuration: AgentConfiguration, zookeeper: ZooKeeperConfiguration?, logger: Logger) throws {
        if let zookeeper {
            self = .zookeeper(ZooKeeperClient(configuration: zookeeper, logger: logger))
        } else {
            self = .memory(try InMemoryStore())
        }
    }

    var store: any CoordinationStore {
        switch self {
        case .zookeeper(let client): client
        case .memory(let store): store
        }
    }

    /// Begins to connect; a registry in memory is made here.
    func start(_ configuration: AgentConfiguration, paths: RegistryPaths, id: AgentID, logger: Logger) async throws {
        switch self {
        case .zookeeper(let client): client.start()
        case .memory(let store):
            logger.notice(
                """
                standalone: the registry is in this process's memory. Nothing is shared with other hosts, nothing is kept \
                when it ends, and hkctl cannot reach it
                """)
            let registry = try RegistryOperator(store: store, paths: paths, author: id.description, logger: logger)
            _ = try await registry.initialise(
                topology: TopologyDocument(nodes: configuration.nodes), rules: configuration.standaloneRules)
        }
    }

    func close() async {
        switch self {
        case .zookeeper(let client): await client.close()
        case .memory(let store): await store.close()
        }
    }
}
