import HotKeyPeer
import HotKeyRegistry
import HotKeyRules
public import Logging
import NIOConcurrencyHelpers
import NIOCore
import NIOPosix
import RedisProxy
public import ServiceLifecycle
import SocketIO
import ZooKeeper

/// One agent: puts the parts together and runs them until it is asked to stop.
///
/// Started in this order: the peer listener, so that the registry names an address that answers; the registry's services; the
/// app listener, once a topology is known (from the registry or from disk). Stopped in the opposite order: no new clients,
/// what is in flight is answered, the agent leaves the registry, connections end.
public struct AgentRuntime: Service {
    /// What `hkagent --version` says.
    public static let version = HotKeyVersion.current

    private let configuration: AgentConfiguration
    private let logger: Logger
    private let paths: RegistryPaths
    private let id: AgentID
    /// Nil for an agent that runs by itself.
    private let zookeeper: ZooKeeperConfiguration?
    private let security: AgentSecurity
    private let reloads: AsyncStream<Void>
    private let sockets: InheritedSockets

    /// Throws when the configuration cannot work; nothing has been started then.
    /// - Parameters:
    ///   - reloads: each element makes the agent look at its files of certificates and passwords at once.
    ///   - sockets: listen already at the addresses of the configuration, and are used for them.
    public init(
        configuration: AgentConfiguration, logger: Logger, reloads: AsyncStream<Void> = AsyncStream { $0.finish() },
        sockets: InheritedSockets = InheritedSockets()
    ) throws {
        self.configuration = configuration
        self.logger = logger
        paths = try RegistryPaths(root: configuration.zookeeper.root, app: configuration.app)
        id = try AgentID(configuration.id)
        if let reason = configuration.reasonNotToAdvertise(configuration.peer) {
            throw AgentError(
                .unreachablePeer, "the peer address \(configuration.peer) must not be published: \(reason)")
        }
        if let reason = configuration.reasonNotToOpenPeer {
            throw AgentError(.openPeer, "the peer listener must not be opened on \(configuration.peer): \(reason)")
        }
        security = try AgentSecurity(configuration)
        self.reloads = reloads
        try sockets.check(
            against: [configuration.appListener, .tcp(configuration.peer)].compactMap { $0 })
        self.sockets = sockets
        zookeeper =
            configuration.standalone
            ? nil
            : try ZooKeeperConfiguration(
                connectString: configuration.zookeeper.connectString,
                sessionTimeoutMilliseconds: configuration.zookeeper.sessionTimeoutMilliseconds,
                authentication: configuration.zookeeper.credentials.map { [$0.credential] } ?? [],
                tls: try configuration.zookeeper.tls())
    }

    public func run() async throws {
        let group = try SocketEventLoopGroup(count: configuration.threads)
        do {
            try await run(on: group)
            try await group.shutdownGracefully()
        } catch {
            try? await group.shutdownGracefully()
            throw error
        }
    }

    private func run(on group: SocketEventLoopGroup) async throws {
        let store = try AgentStore(configuration, zookeeper: zookeeper, logger: logger)
        let hashSeed = UInt64.random(in: .min ... .max)
        let commands = AgentCommands()
        let keysMax = configuration.detection.keysPerSliceMax
        let news = CountingNews()
        let proxy = try await ProxyServer(
            configuration: proxyConfiguration(hashSeed: hashSeed),
            group: group, topology: nil,
            agentCommands: commands, logger: logger, makeRecorder: { _ in LoopCounter(keysMax: keysMax, news: news) })
        try await proxy.start()
        do {
            let peer = try await proxy.listen(
                on: .tcp(host: configuration.peer.host, port: configuration.peer.port), role: .peer,
                security: security.peer, inherited: sockets.descriptor(for: .tcp(configuration.peer)))
            try await store.start(configuration, paths: paths, id: id, logger: logger)
            try await serve(proxy, commands, store.store, news, hashSeed: hashSeed, peer: peer)
        } catch {
            await proxy.shutDown()
            await store.close()
            throw error
        }
        await proxy.shutDown()
        await store.close()
        logger.notice("stopped")
    }

    private func serve(
        _ proxy: ProxyServer, _ commands: AgentCommands, _ store: any CoordinationStore, _ news: CountingNews,
        hashSeed: UInt64, peer: ProxyServer.Address
    ) async throws {
        let clock = EnsembleClock()
        // Connections to other agents and to nodes that are asked aside from requests.
        let group = MultiThreadedEventLoopGroup.singleton
        let subscriber = RegistrySubscriber(
            store: store, paths: paths, stateDirectory: configuration.stateDirectory, logger: logger)
        let coordinator =
            configuration.coordinator == .never
            ? nil
            : CoordinatorService(
                store: store, paths: paths, id: id, subscriber: subscriber, group: group, clock: clock,
                peerSecurity: security.peerClient,
                scan: ScheduledScan(
                    settings: configuration.scan, upstream: security.upstream,
                    requestTimeoutMilliseconds: configuration.upstream.requestTimeoutMilliseconds, store: store,
                    paths: paths, id: id, subscriber: subscriber, group: group, clock: clock, logger: logger),
                proxy: proxy, logger: logger)
        // Random, so that no two starts of any agents share one: by it the coordinator tells one agent under two ids.
        let reports = ReportStore(epoch: UInt64.random(in: 1...UInt64(Int64.max)))
        // The report service tells the acting service of local hot keys, which tells the report service of rules: one of the two
        // is reached through a box.
        let actingBox = NIOLockedValueBox<ActingService?>(nil)
        let reporter = ReportService(
            proxy: proxy, news: news, store: reports,
            bytesPerSecondMax: configuration.detection.reportBytesPerSecondMax,
            logger: logger, onLocalHotKeys: { keys in actingBox.withLockedValue { $0 }?.setLocalHotKeys(keys) })
        let acting = ActingService(
            subscriber: subscriber, proxy: proxy, hashSeed: hashSeed, clock: clock, logger: logger,
            onRules: { book in
                coordinator?.setRules(book)
                reporter.setRules(book.detection)
            },
            onHotKeys: { hashes in reporter.setHotKeys(hashes) })
        actingBox.withLockedValue { $0 = acting }
        let startedAt = Timestamp.now
        let presence = AgentPresence(
            store: store, paths: paths, id: id,
            document: AgentDocument(
                peer: configuration.advertisePeer?.description ?? peer.description, version: HotKeyVersion.current,
                startedAt: startedAt), clock: clock, logger: logger)
        let view = AgentView(
            configuration: configuration, startedAt: startedAt, acting: acting, coordinator: coordinator,
            reports: reports, subscriber: subscriber, presence: presence, proxy: proxy, security: security)
        commands.connect(to: view)
        let isDraining = NIOLockedValueBox(false)
        let admin = AdminServer(
            address: configuration.admin, view: view, isDraining: isDraining, logger: logger,
            takesOver: !sockets.isEmpty)
        try await withThrowingTaskGroup(of: Ending.self) { tasks in
            func service(_ name: String, _ body: @escaping @Sendable () async throws -> Void) {
                tasks.addTask {
                    try await body()
                    return .service(name)
                }
            }
            service("registry subscriber") { try await subscriber.run() }
            service("acting") { try await acting.run { try await openAppListener(proxy) } }
            service("reports") { try await reporter.run() }
            service("presence") { try await presence.run() }
            if let coordinator { service("coordinator") { try await coordinator.run() } }
            service("admin") { try await admin.run() }
            let files = SecurityFiles(security: security, proxy: proxy, reloads: reloads, logger: logger)
            service("security files") { try await files.run() }
            tasks.addTask {
                try await gracefulShutdown()
                return .asked
            }
            logger.notice(
                "started",
                metadata: [
                    "id": "\(id)", "app": "\(configuration.app)", "peer": "\(peer)", "admin": "\(configuration.admin)",
                ])
            defer { tasks.cancelAll() }
            guard let ending = try await tasks.next() else { return }
            if case .service(let name) = ending, !Task.isCancelled, !Task.isShuttingDownGracefully {
                throw AgentError(.serviceEnded, "the agent's \(name) ended although nobody asked it to")
            }
            logger.notice("stopping: no new clients, answering what is in flight")
            isDraining.withLockedValue { $0 = true }
            await proxy.drain(graceMilliseconds: Int64(configuration.shutdownGraceMilliseconds))
            tasks.cancelAll()
            // The agent's node and its candidacy are taken out of the registry as their services end.
            while (try? await tasks.next()) ?? nil != nil {}
        }
    }

    private enum Ending {
        case service(String)
        case asked
    }

    /// With as many clients as the process may have sockets for.
    private func proxyConfiguration(hashSeed: UInt64) -> ProxyConfiguration {
        var proxy = configuration.proxyConfiguration(hashSeed: hashSeed, upstreamSecurity: security.upstream)
        let limit = OpenFiles.raiseLimit()
        proxy.clientsMax = OpenFiles.clientsMax(proxy.clientsMax, limit: limit)
        if proxy.clientsMax < configuration.limits.clientsMax {
            logger.warning(
                """
                this process may have \(limit) files open, which are too few for \(configuration.limits.clientsMax) clients: more than \
                \(proxy.clientsMax) are refused. Raise the limit (ulimit -n, LimitNOFILE=) or lower clientsMax
                """)
        }
        return proxy
    }

    private func openAppListener(_ proxy: ProxyServer) async throws {
        guard let listen = configuration.appListener else { return }
        let address = try await proxy.listen(
            on: ProxyServer.Address(listen), role: .app, security: security.listen,
            inherited: sockets.descriptor(for: listen))
        logger.notice("serving apps", metadata: ["listen": "\(address)"])
    }
}

extension ProxyServer.Address {
    init(_ address: ListenAddress) {
        switch address {
        case .tcp(let address): self = .tcp(host: address.host, port: address.port)
        case .unix(let path): self = .unixSocket(path: path)
        }
    }
}
