import HotKeyTestSupport
import Testing
import ZooKeeper

@testable import HotKeyRegistry

/// Roles, as decided and as an in-memory store enforces them.
@Suite struct AccessTests {
    static let operatorID = try! DigestIdentity(user: "ann", password: "a")
    static let agentID = try! DigestIdentity(user: "agent", password: "b")
    static let readerID = try! DigestIdentity(user: "bob", password: "c")
    static let access = RegistryAccess(operators: [operatorID], agents: [agentID], readers: [readerID])

    @Test func everyListNamesEachRoleWithItsRights() {
        func rights(_ node: RegistryNode, _ identity: DigestIdentity) -> AccessControl.Permissions? {
            Self.access.accessControl(of: node).first { $0.identity == identity.description }?.permissions
        }
        let nodes: [RegistryNode] =
            [.root, .app] + RegistryPaths.appChildren + [.bucket(0), .bucket(63), .source, .candidate, .agent]
        for node in nodes {
            #expect(rights(node, Self.operatorID) == .all)
            #expect(rights(node, Self.readerID) == (node == .access ? nil : .read))
            #expect(rights(node, Self.agentID)?.contains(.read) == true)
            #expect(rights(node, Self.agentID)?.contains(.admin) == false)
            #expect(!Self.access.accessControl(of: node).contains { $0.scheme == "world" })
        }
        for node in [RegistryNode.app, .access, .control, .rules, .pins, .topology] {
            #expect(rights(node, Self.agentID) == .read)
        }
        // An agent that could write an election node could depose its leader.
        #expect(rights(.candidate, Self.agentID)?.contains(.write) == false)
        var open = Self.access
        open.anyoneMayRead = true
        #expect(open.accessControl(of: .pins).last?.scheme == "world")
        #expect(!open.accessControl(of: .access).contains { $0.scheme == "world" })
    }

    @Test func theRootKeepsWhatOtherAppsPutThere() {
        let other = AccessControl(permissions: .all, scheme: "digest", identity: "carol:x")
        let mine = Self.access.accessControl(of: .root)
        #expect(RegistryAccess.rootAccessControl(AccessControl.openUnsafe, former: nil, now: Self.access) == mine)
        #expect(
            RegistryAccess.rootAccessControl([other] + mine, former: Self.access, now: Self.access) == [other] + mine)
        let next = RegistryAccess(operators: [Self.operatorID])
        #expect(
            RegistryAccess.rootAccessControl([other] + mine, former: Self.access, now: next)
                == [other] + next.accessControl(of: .root))
        #expect(RegistryAccess.rootAccessControl([other] + mine, former: Self.access, now: nil) == [other])
        #expect(RegistryAccess.rootAccessControl(mine, former: Self.access, now: nil) == AccessControl.openUnsafe)
    }

    @Test func everyPathOfTheSchemaIsKnownAndNoOther() throws {
        let paths = try RegistryPaths(app: "shop")
        #expect(paths.node(at: "/hotkeys") == .root && paths.node(at: "/hotkeys/shop") == .app)
        #expect(paths.node(at: "/hotkeys/shop/hot/3f") == .bucket(63) && paths.node(at: "/hotkeys/shop/hot/40") == nil)
        #expect(paths.node(at: "/hotkeys/shop/hot/3F") == nil && paths.node(at: "/hotkeys/shop/hot/+1") == nil)
        #expect(paths.node(at: "/hotkeys/shop/agents/h") == .agent && paths.node(at: "/hotkeys/shop/x") == nil)
        #expect(paths.node(at: "/hotkeys/shop/leader/candidate-0-0000000001") == .candidate)
        #expect(paths.node(at: "/hotkeys/shop/leader/x") == nil && paths.node(at: "/hotkeys/other") == nil)
    }

    @Test func aStoreEnforcesItAndWhatAgentsCreateCarriesTheirRolesLists() async throws {
        let ensemble = InMemoryEnsemble()
        func store(_ user: String, _ password: String) throws -> InMemoryStore {
            try InMemoryStore(ensemble: ensemble, authentication: [.digest(user: user, password: password)])
        }
        let app = try await TestApp(address: "memory:1", root: "/hotkeys")
        let ann = try store("ann", "a")
        let agent = try store("agent", "b")
        _ = try await app.makeOperator(ann).initialise(topology: TestApp.topology, access: Self.access)
        // A bucket that is missing is created by the publisher.
        try await ann.delete(app.paths.bucket(KeyName("x").bucket), version: nil)
        let clock = EnsembleClock()
        let presence = AgentPresence(
            store: agent, paths: app.paths, id: try AgentID("host-1"),
            document: AgentDocument(peer: "127.0.0.1:1", version: "1", startedAt: start), clock: clock,
            logger: app.logger)
        let inspect = { @Sendable in try await app.makeOperator(ann).inspect(as: Self.operatorID) }
        try await running([{ try await presence.run() }]) {
            try await app.lead(agent) { leadership in
                let publisher = try await app.openPublisher(agent, leadership)
                await publisher.submit([.set(record("x"))])
                try await running([{ try await publisher.run() }]) {
                    for await state in agent.connectionStates where state != .lost { break }
                    try await eventually("it has published") { await publisher.position.version > 0 }
                    try await eventually("it is registered") { presence.isRegistered }
                    try await eventually("it knows the ensemble's time") { clock.hostLeadMilliseconds != nil }
                    #expect(presence.refusal == nil)
                    #expect(try await inspect() == [])
                }
            }
        }
        await #expect(throws: StoreError.self) {
            try await agent.set(app.paths.pins, [], version: nil)
        }
        let bob = try app.makeOperator(try store("bob", "c"))
        #expect(try await bob.pins().document.pins.isEmpty)
        await #expect(throws: RegistryError.self) { try await bob.pin("x") }
        await #expect(throws: RegistryError.self) { try await bob.access() }
    }
}
