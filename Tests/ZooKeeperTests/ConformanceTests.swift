import HotKeyTestSupport
import Testing

@testable import ZooKeeper

extension WithServers {
    /// The promises of ``CoordinationStore``, kept by each of its implementations. Whatever one of them cannot pass is a
    /// difference that would make a test on the in-memory store worth nothing.
    @Suite(.timeLimit(.minutes(2))) struct Conformance {
        @Test(arguments: StoreUnderTest.allCases)
        func valuesVersionsAndTimes(_ kind: StoreUnderTest) async throws {
            try await ConformanceWorld.with(kind) { world, store in
                let path = "\(world.root)/n"
                #expect(try await store.exists(path) == nil)
                #expect(try await store.create(path, [1, 2], mode: .persistent) == path)
                let first = try await store.get(path)
                #expect(first.data == [1, 2])
                #expect(first.stat.version == 0 && first.stat.childrenVersion == 0 && first.stat.aclVersion == 0)
                #expect(first.stat.dataLengthBytes == 2 && first.stat.childCount == 0)
                #expect(first.stat.createdTransaction == first.stat.modifiedTransaction)
                #expect(first.stat.createdAtMilliseconds == first.stat.modifiedAtMilliseconds)
                #expect(first.stat.ephemeralOwner == 0)
                let second = try await store.set(path, [], version: 0)
                #expect(second.version == 1 && second.dataLengthBytes == 0)
                #expect(second.modifiedTransaction > first.stat.modifiedTransaction)
                #expect(second.createdTransaction == first.stat.createdTransaction)
                #expect(try await store.get(path) == NodeValue(data: [], stat: second))
                #expect(try await store.exists(path) == second)
                #expect(try await store.set(path, [3], version: nil).version == 2)
                try await store.delete(path, version: 2)
                try await store.create(path)
                let again = try #require(try await store.exists(path))
                #expect(again.version == 0 && again.createdTransaction > first.stat.createdTransaction)
            }
        }

        @Test(arguments: StoreUnderTest.allCases)
        func childrenAndTheirVersions(_ kind: StoreUnderTest) async throws {
            try await ConformanceWorld.with(kind) { world, store in
                let root = world.root
                for name in ["b", "a", "c"] { try await store.create("\(root)/\(name)") }
                var children = try await store.children(root)
                #expect(Set(children.names) == ["a", "b", "c"])
                #expect(children.stat.childCount == 3 && children.stat.childrenVersion == 3)
                try await store.delete("\(root)/b", version: nil)
                children = try await store.children(root)
                #expect(Set(children.names) == ["a", "c"])
                #expect(children.stat.childrenVersion == 4, "creations and deletions count")
                #expect(children.stat.version == 0)
                try await store.sync(root)
                try await store.sync("\(root)/nowhere")
            }
        }

        @Test(arguments: StoreUnderTest.allCases)
        func sequenceNumbersCountCreations(_ kind: StoreUnderTest) async throws {
            try await ConformanceWorld.with(kind) { world, store in
                let root = world.root
                #expect(
                    try await store.create("\(root)/s-", mode: .persistentSequential) == "\(root)/s-0000000000")
                try await store.create("\(root)/plain")
                try await store.delete("\(root)/plain", version: nil)
                #expect(
                    try await store.create("\(root)/t", mode: .ephemeralSequential) == "\(root)/t0000000002",
                    "a deletion takes no number, a plain creation does")
                #expect(try await store.create("\(root)/", mode: .persistentSequential) == "\(root)/0000000003")
                let results = try await store.multi([
                    .create("\(root)/m", data: [], mode: .persistentSequential, acl: AccessControl.openUnsafe),
                    .create("\(root)/m", data: [], mode: .persistentSequential, acl: AccessControl.openUnsafe),
                ])
                #expect(results == [.created("\(root)/m0000000004"), .created("\(root)/m0000000005")])
                await expectError(.badVersion) {
                    try await store.multi([
                        .create("\(root)/m", data: [], mode: .persistentSequential, acl: AccessControl.openUnsafe),
                        .check(root, version: 9),
                    ])
                }
                #expect(
                    try await store.create("\(root)/m", mode: .persistentSequential) == "\(root)/m0000000006",
                    "a multi that failed takes none")
            }
        }

        @Test(arguments: StoreUnderTest.allCases)
        func ephemeralNodesGoWithTheirSession(_ kind: StoreUnderTest) async throws {
            try await ConformanceWorld.with(kind) { world, store in
                let root = world.root
                let (other, close) = try await world.openClosable()
                let owner = try await establishedSession(other)
                let path = try await other.create("\(root)/e", mode: .ephemeral)
                try await other.create("\(root)/keep")
                try await store.sync(root)
                #expect(try await store.exists(path)?.ephemeralOwner == owner)
                await expectError(.noChildrenForEphemerals) { try await store.create("\(path)/x") }
                let events = Recorder<WatchEvent>()
                _ = try await store.get(path) { events.record($0) }
                _ = try await store.children(root) { events.record($0) }
                await close()
                try await events.eventually("both watches") { Set($0) == [.deleted, .childrenChanged] }
                #expect(try await store.exists(path) == nil)
                #expect(try await store.children(root).names == ["keep"])
                await expectError(.closed) { try await other.get(root) }
            }
        }

        @Test(arguments: StoreUnderTest.allCases)
        func dataWatchesFireOnceForWhatTheyAreFor(_ kind: StoreUnderTest) async throws {
            try await ConformanceWorld.with(kind) { world, store in
                let path = "\(world.root)/n"
                let events = Recorder<String>()
                #expect(try await store.exists(path) { events.record("exists \($0)") } == nil)
                await expectError(.noNode) { _ = try await store.get(path) { events.record("never \($0)") } }
                await expectError(.noNode) { _ = try await store.children(path) { events.record("never \($0)") } }
                try await store.create(path)
                #expect(events.all == ["exists created"])
                _ = try await store.exists(path) { events.record("exists \($0)") }
                _ = try await store.get(path) { events.record("get \($0)") }
                try await store.create("\(path)/child")
                try await store.delete("\(path)/child", version: nil)
                try await store.flushEvents()
                #expect(events.all.count == 1, "children are no business of a data watch")
                try await store.set(path, [1], version: nil)
                try await store.set(path, [2], version: nil)
                try await store.flushEvents()
                #expect(Set(events.all.dropFirst()) == ["exists changed", "get changed"] && events.all.count == 3)
                _ = try await store.get(path) { events.record("get \($0)") }
                _ = try await store.exists(path) { events.record("exists \($0)") }
                try await store.delete(path, version: nil)
                try await store.flushEvents()
                #expect(Set(events.all.dropFirst(3)) == ["exists deleted", "get deleted"] && events.all.count == 5)
                try await store.create(path)
                try await store.flushEvents()
                #expect(events.all.count == 5)
            }
        }

        @Test(arguments: StoreUnderTest.allCases)
        func childWatchesFireOnceForWhatTheyAreFor(_ kind: StoreUnderTest) async throws {
            try await ConformanceWorld.with(kind) { world, store in
                let path = try await store.create("\(world.root)/n")
                let events = Recorder<WatchEvent>()
                _ = try await store.children(path) { events.record($0) }
                try await store.set(path, [1], version: nil)
                try await store.create("\(path)/c")
                try await store.create("\(path)/d")
                try await store.flushEvents()
                #expect(events.all == [.childrenChanged])
                _ = try await store.children(path) { events.record($0) }
                try await store.set("\(path)/c", [1], version: nil)
                try await store.create("\(path)/c/grandchild")
                try await store.flushEvents()
                #expect(events.all.count == 1, "neither a child's data nor a grandchild")
                try await store.delete("\(path)/d", version: nil)
                try await store.flushEvents()
                #expect(events.all == [.childrenChanged, .childrenChanged])
                try await store.delete("\(path)/c/grandchild", version: nil)
                try await store.delete("\(path)/c", version: nil)
                _ = try await store.children(path) { events.record($0) }
                try await store.delete(path, version: nil)
                try await store.flushEvents()
                #expect(events.all == [.childrenChanged, .childrenChanged, .deleted])
            }
        }

        /// The event comes before any reply that shows the change; of an own write, before its reply.
        @Test(arguments: StoreUnderTest.allCases)
        func theEventComesBeforeTheNews(_ kind: StoreUnderTest) async throws {
            try await ConformanceWorld.with(kind) { world, store in
                let other = try await world.open()
                for round in 0..<100 {
                    let data = [UInt8(round)]
                    let events = Recorder<WatchEvent>()
                    _ = try await store.get(world.root) { events.record($0) }
                    if round % 2 == 0 {
                        try await store.set(world.root, data, version: nil)
                    } else {
                        async let written = other.set(world.root, data, version: nil)
                        while try await store.get(world.root).data != data { #expect(events.all.count <= 1) }
                        _ = try await written
                    }
                    #expect(events.all == [.changed], "round \(round)")
                }
            }
        }

        @Test(arguments: StoreUnderTest.allCases)
        func watchesHearOfTheEndOfTheSession(_ kind: StoreUnderTest) async throws {
            try await ConformanceWorld.with(kind) { world, _ in
                let (store, close) = try await world.openClosable()
                let events = Recorder<WatchEvent>()
                _ = try await store.get(world.root) { events.record($0) }
                _ = try await store.exists("\(world.root)/x") { events.record($0) }
                _ = try await store.children(world.root) { events.record($0) }
                await close()
                try await events.eventually("all three") { $0 == [.sessionLost, .sessionLost, .sessionLost] }
                var states: [ConnectionState] = []
                for await state in store.connectionStates { states.append(state) }
                #expect(states == [.lost])
                #expect(store.lease == nil)
            }
        }

        @Test(arguments: StoreUnderTest.allCases)
        func aMultiIsAllOrNothing(_ kind: StoreUnderTest) async throws {
            try await ConformanceWorld.with(kind) { world, store in
                let root = world.root
                #expect(try await store.multi([]) == [])
                try await store.create("\(root)/a", [1])
                try await store.create("\(root)/gone")
                let results = try await store.multi([
                    .check("\(root)/a", version: 0),
                    .create("\(root)/b", data: [2], mode: .persistent, acl: AccessControl.openUnsafe),
                    .create("\(root)/b/c", data: [3], mode: .ephemeral, acl: AccessControl.openUnsafe),
                    .set("\(root)/a", data: [9, 9], version: 0),
                    .check("\(root)/a", version: 1),
                    .delete("\(root)/gone", version: nil),
                ])
                #expect(results[1] == .created("\(root)/b") && results[2] == .created("\(root)/b/c"))
                #expect(results[0] == .checked && results[4] == .checked && results[5] == .deleted)
                #expect(results[3] == .set(try await store.get("\(root)/a").stat))

                let before = try await (store.get("\(root)/a"), store.children(root))
                let events = Recorder<WatchEvent>()
                _ = try await store.get("\(root)/a") { events.record($0) }
                for (code, failing) in [
                    (.badVersion, .check("\(root)/a", version: 77)),
                    (.noNode, .check("\(root)/gone", version: -1)),
                    (.nodeExists, .create("\(root)/b", data: [], mode: .persistent, acl: AccessControl.openUnsafe)),
                    (.noNode, .create("\(root)/x/y", data: [], mode: .persistent, acl: AccessControl.openUnsafe)),
                    (.noNode, .delete("\(root)/gone", version: nil)),
                    (.notEmpty, .delete("\(root)/b", version: nil)),
                    (.badVersion, .set("\(root)/b", data: [], version: 5)),
                ] as [(StoreError.Code, StoreOperation)] {
                    let error = await storeError {
                        try await store.multi([
                            .set("\(root)/a", data: [0], version: nil),
                            .create("\(root)/never", data: [], mode: .persistent, acl: AccessControl.openUnsafe),
                            .delete("\(root)/b/c", version: nil),
                            .create("\(root)/b/c", data: [], mode: .persistent, acl: AccessControl.openUnsafe),
                            failing,
                            .set("\(root)/b", data: [], version: 77),
                        ])
                    }
                    #expect(error?.code == code)
                    #expect(error?.operationIndex == 4)
                    #expect(error?.path == failing.path)
                    #expect(error?.rawCode != nil && error?.message.isEmpty == false)
                }
                #expect(try await store.get("\(root)/a") == before.0)
                #expect(try await store.children(root).stat == before.1.stat)
                #expect(try await store.exists("\(root)/never") == nil)
                #expect(try await store.exists("\(root)/b/c")?.ephemeralOwner != 0)
                #expect(events.all.isEmpty, "what did not happen fires nothing")
            }
        }

        @Test(arguments: StoreUnderTest.allCases)
        func accessControlIsEnforced(_ kind: StoreUnderTest) async throws {
            try await ConformanceWorld.with(kind) { world, anyone in
                let root = world.root
                let ann = try ZooKeeperCredential.digest(user: "ann", password: "opensesame-1")
                let annOnly = AccessControl(
                    permissions: .all, scheme: "digest",
                    identity: AccessControl.digestIdentity(user: "ann", password: "opensesame-1"))
                let owner = try await world.open(as: ann)
                let mine = try await owner.create(
                    "\(root)/mine", [1], mode: .persistent, acl: AccessControl.creatorAll)
                #expect(try await owner.accessControl(mine).acl == [annOnly], "auth stands for who asked")
                try await anyone.sync(mine)
                await expectError(.noAuthentication) { try await anyone.get(mine) }
                await expectError(.noAuthentication) { try await anyone.children(mine) }
                await expectError(.noAuthentication) { try await anyone.set(mine, [], version: nil) }
                await expectError(.noAuthentication) { try await anyone.create("\(mine)/x") }
                await expectError(.noAuthentication) { try await anyone.accessControl(mine) }
                await expectError(.noAuthentication) {
                    try await anyone.setAccessControl(mine, AccessControl.openUnsafe, aclVersion: nil)
                }
                await expectError(.noAuthentication) { try await anyone.multi([.check(mine, version: -1)]) }
                await expectError(.invalidACL) {
                    try await anyone.create("\(root)/x", [], mode: .persistent, acl: AccessControl.creatorAll)
                }
                for bad in [
                    AccessControl(permissions: .all, scheme: "no-such-scheme", identity: "x"),
                    AccessControl(permissions: .all, scheme: "world", identity: "someone"),
                    AccessControl(permissions: .all, scheme: "digest", identity: "no-colon"),
                ] {
                    await expectError(.invalidACL) {
                        try await anyone.create("\(root)/x", [], mode: .persistent, acl: [bad])
                    }
                }
                #expect(try await anyone.exists(mine) != nil, "existence is no secret")
                try await anyone.delete(mine, version: nil)

                // Permissions are the node's own: nothing is inherited, and deletion is the parent's.
                let readOnly = AccessControl(permissions: .read, scheme: "world", identity: "anyone")
                let shared = try await owner.create(
                    "\(root)/shared", [1], mode: .persistent, acl: [readOnly, annOnly])
                try await owner.create("\(shared)/child")
                try await anyone.sync(shared)
                #expect(try await anyone.get(shared).data == [1])
                await expectError(.noAuthentication) { try await anyone.set(shared, [], version: nil) }
                await expectError(.noAuthentication) { try await anyone.delete("\(shared)/child", version: nil) }
                await expectError(.noAuthentication) { try await anyone.delete("\(shared)/nowhere", version: nil) }
                try await anyone.set("\(shared)/child", [7], version: nil)
                #expect(
                    try await anyone.accessControl(shared).acl.map(\.identity) == ["anyone", "ann:x"],
                    "who may not administer does not see digests")
                let stat = try await owner.accessControl(shared).stat
                await expectError(.badVersion) {
                    try await owner.setAccessControl(
                        shared, AccessControl.openUnsafe, aclVersion: stat.aclVersion + 1)
                }
                try await owner.setAccessControl(shared, AccessControl.openUnsafe, aclVersion: stat.aclVersion)
                #expect(try await owner.accessControl(shared).stat.aclVersion == 1)
                try await anyone.sync(shared)
                try await anyone.set(shared, [], version: 0)
            }
        }

        /// Servers with the fix of CVE-2024-23944 (3.8.4, 3.9.2, and Debian's 3.8.0). An agent that may not read what
        /// it watches never hears of it, and nothing tells it so.
        @Test(arguments: StoreUnderTest.allCases)
        func whoMayNotReadDoesNotHear(_ kind: StoreUnderTest) async throws {
            try await ConformanceWorld.with(kind) { world, anyone in
                let path = "\(world.root)/n"
                let owner = try await world.open(as: .digest(user: "ann", password: "a"))
                let events = Recorder<WatchEvent>()
                #expect(try await anyone.exists(path) { events.record($0) } == nil)
                try await owner.create(path, [], mode: .persistent, acl: AccessControl.creatorAll)
                try await anyone.flushEvents()
                #expect(events.all.isEmpty)
                try await owner.setAccessControl(path, AccessControl.openUnsafe, aclVersion: nil)
                try await owner.set(path, [1], version: nil)
                try await anyone.flushEvents()
                #expect(events.all.isEmpty, "the watch was used up")
                _ = try await anyone.exists(path) { events.record($0) }
                try await owner.set(path, [2], version: nil)
                // The C library knows watches by their path: the one that was silenced comes with the next.
                try await events.eventually("the change") { $0 == [.changed, .changed] }
            }
        }

        @Test(arguments: StoreUnderTest.allCases)
        func sizesAndPathsAreBounded(_ kind: StoreUnderTest) async throws {
            try await ConformanceWorld.with(kind) { world, store in
                let root = world.root
                let large = [UInt8](repeating: 1, count: ZooKeeperLimits.requestBytesMax - 1_000)
                try await store.set(root, large, version: nil)
                #expect(try await store.get(root).data == large)
                for body in [
                    { try await store.set(root, large + [UInt8](repeating: 0, count: 1_000), version: nil) },
                    {
                        try await store.multi([
                            .set(root, data: large, version: nil), .set(root, data: large, version: nil),
                        ])
                    },
                    { _ = try await store.get("no-slash") },
                    { try await store.create("\(root)/a/") },
                    { try await store.create("\(root)/a", [], mode: .persistent, acl: []) },
                    { try await store.multi([.check(root, version: -2)]) },
                    {
                        try await store.multi([
                            .create("\(root)/c", data: [], mode: .container, acl: AccessControl.openUnsafe)
                        ])
                    },
                ] as [() async throws -> Void] {
                    let error = await storeError(body)
                    #expect(error?.code == .badArguments && error?.rawCode == nil)
                }
                #expect(try await store.create("\(root)/c", mode: .container) == "\(root)/c")
                try await store.create("\(root)/c/child")
            }
        }

        @Test(arguments: StoreUnderTest.allCases)
        func aChrootIsInvisible(_ kind: StoreUnderTest) async throws {
            try await ConformanceWorld.with(kind) { world, outside in
                let root = world.root
                let inside = try await world.open(chroot: root)
                #expect(try await inside.create("/a", [1]) == "/a")
                #expect(try await inside.create("/a/s", mode: .persistentSequential) == "/a/s0000000000")
                #expect(try await inside.children("/").names == ["a"])
                #expect(
                    try await inside.multi([
                        .create("/b", data: [], mode: .persistent, acl: AccessControl.openUnsafe),
                        .delete("/b", version: 0),
                    ]) == [.created("/b"), .deleted])
                try await outside.sync(root)
                #expect(try await outside.get("\(root)/a").data == [1])
                let events = Recorder<WatchEvent>()
                _ = try await inside.get("/a") { events.record($0) }
                try await outside.set("\(root)/a", [3], version: nil)
                try await events.eventually("the change") { $0 == [.changed] }
                let single = await storeError { try await inside.get("/zz") }
                #expect(single?.path == "/zz")
                let multi = await storeError { try await inside.multi([.check("/zz", version: 0)]) }
                #expect(multi?.path == "/zz")
                let nowhere = try await world.open(chroot: "\(root)/nowhere")
                await expectError(.noNode) { try await nowhere.create("/a") }
            }
        }

        @Test(arguments: StoreUnderTest.allCases)
        func theServersOwnNodesAreGuarded(_ kind: StoreUnderTest) async throws {
            try await ConformanceWorld.with(kind) { _, store in
                for path in ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
                    let stat = try await store.exists(path)
                    #expect(stat != nil)
                    let error = await storeError { try await store.delete(path, version: nil) }
                    #expect(error?.code == .badArguments && error?.rawCode == -8, "\(path)")
                }
                await expectError(.nodeExists) { try await store.create("/") }
            }
        }

        @Test(arguments: StoreUnderTest.allCases)
        func whoIsCancelledHearsNothingMore(_ kind: StoreUnderTest) async throws {
            try await ConformanceWorld.with(kind) { world, store in
                let events = Recorder<WatchEvent>()
                let task = Task {
                    withUnsafeCurrentTask { $0?.cancel() }
                    return try await store.get(world.root) { events.record($0) }
                }
                await expectCancelled { try await task.value }
                try await store.set(world.root, [1], version: nil)
                try await store.flushEvents()
                #expect(events.all.isEmpty)
            }
        }

        @Test(arguments: StoreUnderTest.allCases)
        func theLeaseIsProvenByWhatTheLeaderAnswers(_ kind: StoreUnderTest) async throws {
            try await ConformanceWorld.with(kind) { world, store in
                let before = ContinuousClock.now
                let lease = try #require(try await store.renewLease())
                let session = try await establishedSession(store)
                #expect(lease.sessionID == session)
                #expect(try #require(lease.lastProof) >= before - .milliseconds(2))
                #expect(lease.isSafe())
                let safeUntil = try #require(lease.safeUntil)
                #expect(!lease.isSafe(at: safeUntil) && lease.isSafe(at: safeUntil - .milliseconds(1)))
                #expect(safeUntil - before < .milliseconds(lease.timeoutMilliseconds))
                try await store.set(world.root, [], version: nil)
                #expect(try #require(store.lease?.lastProof) >= lease.lastProof!)
            }
        }
    }
}
