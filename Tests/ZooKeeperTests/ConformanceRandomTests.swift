import HotKeyTestSupport
import Testing

@testable import ZooKeeper

/// A call that is made of both stores, and what it gave, without what may differ: times, transaction and session numbers.
private struct Call {
    enum Kind {
        case one(StoreOperation)
        case multi([StoreOperation])
        case get(String)
        case exists(String)
        case children(String)
        case accessControl(String)
        case setAccessControl(String, [AccessControl], Int32?)
    }
    let session: Int
    let kind: Kind

    func run(on store: any CoordinationStore, events: Recorder<String>, number: Int) async -> String {
        let onEvent: @Sendable (WatchEvent) -> Void = { events.record("\(number) \($0)") }
        do {
            switch kind {
            case .get(let path):
                let value = try await store.get(path, onEvent: onEvent)
                return "\(value.data) \(Self.text(value.stat))"
            case .exists(let path): return try await store.exists(path, onEvent: onEvent).map(Self.text) ?? "nothing"
            case .children(let path):
                let children = try await store.children(path, onEvent: onEvent)
                return "\(children.names.sorted()) \(Self.text(children.stat))"
            case .accessControl(let path):
                let (acl, stat) = try await store.accessControl(path)
                return "\(acl) \(Self.text(stat))"
            case .setAccessControl(let path, let acl, let version):
                try await store.setAccessControl(path, acl, aclVersion: version)
                return "set"
            case .multi(let operations): return "\(try await store.multi(operations).map(Self.text))"
            case .one(.create(let path, let data, let mode, let acl)):
                return try await store.create(path, data, mode: mode, acl: acl)
            case .one(.set(let path, let data, let version)):
                return Self.text(try await store.set(path, data, version: version))
            case .one(.delete(let path, let version)):
                try await store.delete(path, version: version)
                return "deleted"
            case .one(.check): return ""
            }
        } catch {
            return "\(error)"
        }
    }

    private static func text(_ stat: NodeStat) -> String {
        "v\(stat.version) c\(stat.childrenVersion) a\(stat.aclVersion) e\(stat.ephemeralOwner != 0) "
            + "l\(stat.dataLengthBytes) n\(stat.childCount) \(stat.modifiedTransaction > stat.createdTransaction)"
    }

    private static func text(_ result: StoreOperationResult) -> String {
        if case .set(let stat) = result { text(stat) } else { "\(result)" }
    }
}

/// Calls among few names, so that most of them meet a node, and versions that are right about half of the time.
private struct CallMaker {
    var generator: SeededGenerator
    let root: String
    let identities: [AccessControl]

    private mutating func path() -> String {
        let names = ["", "/a", "/b", "/a/x", "/a/y", "/b/x", "/a/x/deep"]
        return root + names.randomElement(using: &generator)!
    }

    private mutating func version() -> Int32? {
        [nil, nil, 0, 1, 2, 3].randomElement(using: &generator)!
    }

    private mutating func acl() -> [AccessControl] {
        [AccessControl.openUnsafe, AccessControl.openUnsafe, AccessControl.creatorAll, identities]
            .randomElement(using: &generator)!
    }

    private mutating func operation(inMulti: Bool) -> StoreOperation {
        switch Int.random(in: 0..<(inMulti ? 8 : 7), using: &generator) {
        case 0..<4:
            let mode = [CreateMode.persistent, .persistent, .ephemeral, .persistentSequential, .ephemeralSequential]
                .randomElement(using: &generator)!
            return .create(path(), data: [UInt8.random(in: 0...9, using: &generator)], mode: mode, acl: acl())
        case 4: return .set(path(), data: [], version: version())
        case 5, 6: return .delete(path(), version: version())
        default: return .check(path(), version: version() ?? -1)
        }
    }

    mutating func next() -> Call {
        let session = Int.random(in: 0..<2, using: &generator)
        let kind: Call.Kind
        switch Int.random(in: 0..<16, using: &generator) {
        case 0..<6: kind = .one(operation(inMulti: false))
        case 6..<8:
            let count = Int.random(in: 1...4, using: &generator)
            var operations: [StoreOperation] = []
            for _ in 0..<count { operations.append(operation(inMulti: true)) }
            kind = .multi(operations)
        case 8..<10: kind = .get(path())
        case 10..<12: kind = .exists(path())
        case 12..<14: kind = .children(path())
        case 14: kind = .accessControl(path())
        default: kind = .setAccessControl(path(), acl(), version())
        }
        return Call(session: session, kind: kind)
    }
}

extension WithServers {
    @Suite(.timeLimit(.minutes(5))) struct ConformanceAtRandom {
        /// The same calls of the real server and of the in-memory store, step by step: every reply, every error with
        /// its text, every event and their order are equal.
        @Test func thousandsOfCallsGiveTheSame() async throws {
            var seeds = SeededGenerator(printing: "conformance")
            for _ in 0..<6 {
                let seed = seeds.next()
                let token = randomToken()
                let logs = [
                    try await log(.zooKeeper, seed: seed, token: token),
                    try await log(.inMemory, seed: seed, token: token),
                ]
                for (index, (real, memory)) in zip(logs[0], logs[1]).enumerated() where real != memory {
                    Issue.record("seed \(seed), call \(index): ZooKeeper gave \(real), the in-memory store \(memory)")
                    break
                }
                #expect(logs[0].count == logs[1].count)
            }
        }

        private func log(_ kind: StoreUnderTest, seed: UInt64, token: String) async throws -> [String] {
            try await ConformanceWorld.with(kind) { world, store in
                // Both worlds take the same name, so that texts with paths are equal.
                try await store.create("/random-\(token)")
                let root = "/random-\(token)/root"
                try await store.create(root)
                let ann = try ZooKeeperCredential.digest(user: "ann", password: "a")
                let bob = try ZooKeeperCredential.digest(user: "bob", password: "b")
                let sessions = [try await world.open(as: ann), try await world.open(as: bob)]
                var maker = CallMaker(
                    generator: SeededGenerator(seed: seed), root: root,
                    identities: [
                        AccessControl(
                            permissions: [.read, .create], scheme: "digest",
                            identity: AccessControl.digestIdentity(user: "bob", password: "b")),
                        AccessControl(
                            permissions: .all, scheme: "digest",
                            identity: AccessControl.digestIdentity(user: "ann", password: "a")),
                    ])
                let events = [Recorder<String>(), Recorder<String>()]
                var log: [String] = []
                var told = [0, 0]
                for number in 0..<400 {
                    let call = maker.next()
                    let reply = await call.run(
                        on: sessions[call.session], events: events[call.session], number: number)
                    // Events of one change reach the watches of one path in no order that anyone promises.
                    for (index, session) in sessions.enumerated() {
                        try await session.flushEvents()
                        let all = events[index].all
                        log.append("\(number) \(index) heard \(all[told[index]...].sorted())")
                        told[index] = all.count
                    }
                    log.append("\(number) \(call.kind): \(reply)")
                }
                return log
            }
        }
    }
}
