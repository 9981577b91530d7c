public import Logging
import StrictCoding
public import ZooKeeper

/// The live agents of an app by id. See ``ZnodeDirectory``.
public typealias AgentDirectory = ZnodeDirectory<AgentDocument>
/// The detectors outside the agents, by name, with what they propose. See ``ZnodeDirectory``.
public typealias SourceDirectory = ZnodeDirectory<SourceDocument>

/// The children of one node and their documents, kept current while ``run()`` runs.
///
/// A document that cannot be read leaves the last good one of that name in force; a child that is gone is gone.
public final class ZnodeDirectory<Document: RegistryDocument>: Sendable {
    private struct Situation: Sendable {
        var isConnected = false
        var listIsDue = false
        var everythingIsDue = false
        var changed: Set<String> = []
        var isIdle: Bool { !isConnected || !(listIsDue || everythingIsDue || !changed.isEmpty) }
    }

    private let registry: RegistryStore
    private let path: String
    private let childrenMax: Int
    /// Whether each child's data is watched, for documents that change in place.
    private let watchesData: Bool
    private let logger: Logger
    private let situation = Broadcast(Situation())
    private let documents = Broadcast<[AgentID: Document]>([:])
    private let reader: WatchedReader

    init(
        registry: RegistryStore, path: String, childrenMax: Int, watchesData: Bool, logger: Logger
    ) {
        self.registry = registry
        self.path = path
        self.childrenMax = childrenMax
        self.watchesData = watchesData
        self.logger = logger
        reader = WatchedReader(store: registry.store) { [situation] changed in
            situation.update { situation in
                if changed == path {
                    situation.listIsDue = true
                } else {
                    situation.changed.insert(String(changed.dropFirst(path.utf8.count + 1)))
                }
            }
        }
    }

    /// As last read; stays while the connection is down.
    public var current: [AgentID: Document] { documents.value }

    /// The current content first, then each newer one; a slow reader gets the newest.
    public var updates: DirectoryUpdates<Document> { DirectoryUpdates(base: documents.stream()) }

    /// Reads everything once, without watching. Children that cannot be read are left out and logged.
    public func read() async throws -> [AgentID: Document] {
        let names = try await registry.translating(path) { try await registry.store.children(path).names }
        return try await read(names.sorted(), watching: false).compactMapValues { $0 }
    }

    /// Returns when cancelled or when the store is closed.
    public func run() async throws {
        do {
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask {
                    for await state in self.registry.store.connectionStates {
                        self.situation.update { situation in
                            if case .connected = state {
                                situation.isConnected = true
                            } else {
                                situation.isConnected = false
                            }
                            situation.everythingIsDue = true
                        }
                    }
                }
                group.addTask { try await self.follow() }
                group.addTask {
                    while true {
                        try await Task.sleep(for: Reread.period(random: .random(in: 0..<1)))
                        self.situation.update { $0.everythingIsDue = true }
                    }
                }
                defer { group.cancelAll() }
                try await group.next()
            }
        } catch is CancellationError {
            // Cancellation is the ordinary end.
        }
    }

    private func follow() async throws {
        var plan = DirectoryPlan()
        var backoff = Backoff(
            millisecondsMin: RegistryLimits.retryMillisecondsMin, millisecondsMax: RegistryLimits.retryMillisecondsMax)
        while true {
            try await situation.first { $0.isIdle ? nil : () }
            let due = situation.update { situation in
                let due = situation
                situation.listIsDue = false
                situation.everythingIsDue = false
                situation.changed = []
                return due
            }
            do {
                try await refresh(&plan, due)
                backoff.reset()
            } catch let error as StoreError where error.code == .noNode {
                plan.forget()
                documents.update { if !$0.isEmpty { $0 = [:] } }
                try await Task.sleep(for: backoff.next(random: .random(in: 0.5..<1)))
                situation.update { $0.everythingIsDue = true }
            } catch let error as StoreError where error.code != .closed {
                plan.forget()
                logger.debug("the directory could not be read", metadata: ["node": "\(path)", "error": "\(error)"])
                try await Task.sleep(for: backoff.next(random: .random(in: 0.5..<1)))
                situation.update { $0.everythingIsDue = true }
            }
        }
    }

    private func refresh(_ plan: inout DirectoryPlan, _ due: Situation) async throws {
        let list = try await reader.children(path)
        if due.everythingIsDue { plan.forget() }
        var names = list.names
        if names.count > childrenMax {
            logger.error(
                "too many children, the rest is ignored", metadata: ["node": "\(path)", "max": "\(childrenMax)"])
            names = Array(names.sorted().prefix(childrenMax))
        }
        let toRead = plan.take(names, childrenVersion: list.stat.childrenVersion, changed: due.changed)
        let read = try await read(toRead, watching: watchesData)
        let known = Set(names)
        documents.update { documents in
            var next = documents.filter { known.contains($0.key.description) }
            for (id, document) in read { if let document { next[id] = document } }
            if next != documents { documents = next }
        }
    }

    /// The documents of `names`; nil for those that are there but cannot be read. Children that went meanwhile and names
    /// that cannot be an id are left out.
    private func read(_ names: [String], watching: Bool) async throws -> [AgentID: Document?] {
        let readsAtOnceMax = 64
        return try await withThrowingTaskGroup(of: (AgentID, Document?)?.self) { group in
            var result: [AgentID: Document?] = [:]
            for (index, name) in names.enumerated() {
                if index >= readsAtOnceMax, let finished = try await group.next(), let (id, document) = finished {
                    result[id] = .some(document)
                }
                group.addTask { try await self.readChild(name, watching: watching) }
            }
            for try await case let (id, document)? in group { result[id] = .some(document) }
            return result
        }
    }

    private func readChild(_ name: String, watching: Bool) async throws -> (AgentID, Document?)? {
        guard let id = try? AgentID(name) else {
            logger.warning("ignoring a node with an unusable name", metadata: ["node": "\(path)/\(name)"])
            return nil
        }
        let child = "\(path)/\(id)"
        do {
            let value = watching ? try await reader.get(child) : try await registry.store.get(child)
            guard let value else { return nil }
            return (id, try RegistryCodec.decode(Document.self, from: value.data, source: child))
        } catch let error as DocumentError {
            logger.warning("a document was refused, the last good one stays", metadata: ["error": "\(error)"])
            return (id, nil)
        } catch let error as StoreError where error.code == .noNode {
            return nil
        }
    }
}

extension ZnodeDirectory where Document == AgentDocument {
    public convenience init(store: any CoordinationStore, paths: RegistryPaths, logger: Logger) {
        self.init(
            registry: RegistryStore(store: store, paths: paths), path: paths.agents,
            childrenMax: RegistryLimits.agentsMax, watchesData: false, logger: logger)
    }
}

extension ZnodeDirectory where Document == SourceDocument {
    public convenience init(store: any CoordinationStore, paths: RegistryPaths, logger: Logger) {
        self.init(
            registry: RegistryStore(store: store, paths: paths), path: paths.sources,
            childrenMax: RegistryLimits.sourcesMax, watchesData: true, logger: logger)
    }
}

/// The content of a directory as it changes.
public struct DirectoryUpdates<Document: RegistryDocument>: AsyncSequence, Sendable {
    let base: AsyncStream<[AgentID: Document]>

    public struct AsyncIterator: AsyncIteratorProtocol {
        var base: AsyncStream<[AgentID: Document]>.AsyncIterator
        public mutating func next() async -> [AgentID: Document]? { await base.next() }
    }

    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(base: base.makeAsyncIterator()) }
}
