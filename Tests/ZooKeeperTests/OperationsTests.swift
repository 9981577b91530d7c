import HotKeyTestSupport
import Testing
@testable import ZooKeeper

extension WithServers {
    @Suite(.timeLimit(.minutes(2))) struct Operations {
        @Test func dataGoesRoundUnchanged() async throws {
            try await withClient { client, root in
                for (index, data) in [[], [0], Array(0...255), [UInt8](repeating: 7, count: 500_000)].enumerated() {
                    let path = try await client.create("\(root)/\(index)", data)
                    #expect(path == "\(root)/\(index)")
                    let value = try await client.get(path)
                    #expect(value.data == data)
                    #expect(value.stat.version == 0)
                    #expect(Int(value.stat.dataLengthBytes) == data.count)
                    let stat = try await client.set(path, data.reversed(), version: 0)
                    #expect(stat.version == 1)
                    #expect(try await client.get(path) == NodeValue(data: data.reversed(), stat: stat))
                    #expect(try await client.exists(path) == stat)
                    try await client.delete(path, version: 1)
                    #expect(try await client.exists(path) == nil)
                }
            }
        }

        @Test func P23_anUnsetValueIsEmpty() async throws {
            let server = try await SharedServer.shared.server()
            try await withClient { client, root in
                let outcome = try await SpawnedProcess.run(
                    SystemTool.python(),
                    [
                        "-c",
                        """
                        from kazoo.client import KazooClient
                        zk = KazooClient(hosts='\(server.address)'); zk.start()
                        zk.create('\(root)/null', None); zk.stop()
                        """,
                    ])
                #expect(outcome.termination.isSuccess, "\(outcome)")
                #expect(try await client.get("\(root)/null").data == [])
            }
        }

        @Test(arguments: CreateMode.allCases) func everyModeCreates(_ mode: CreateMode) async throws {
            try await withClient { client, root in
                let first = try await client.create("\(root)/n", [1], mode: mode)
                let isSequential = mode == .persistentSequential || mode == .ephemeralSequential
                let isEphemeral = mode == .ephemeral || mode == .ephemeralSequential
                #expect(first == (isSequential ? "\(root)/n0000000000" : "\(root)/n"))
                if isSequential {
                    #expect(try await client.create("\(root)/n", mode: mode) == "\(root)/n0000000001")
                    #expect(try await client.create("\(root)/", mode: mode) == "\(root)/0000000002")
                }
                let stat = try #require(try await client.exists(first))
                #expect(try stat.ephemeralOwner == (isEphemeral ? sessionID(client) : 0))
            }
        }

        @Test func errorsSayWhatAndWhere() async throws {
            try await withClient { client, root in
                let missing = "\(root)/missing"
                try await client.create("\(root)/parent/".dropLast().description)
                try await client.create("\(root)/parent/child", mode: .ephemeral)
                let cases: [(StoreError.Code, String, () async throws -> Void)] = [
                    (.noNode, missing, { _ = try await client.get(missing) }),
                    (.noNode, missing, { _ = try await client.get(missing, onEvent: { _ in }) }),
                    (.noNode, missing, { _ = try await client.children(missing) }),
                    (.noNode, missing, { try await client.set(missing, [], version: nil) }),
                    (.noNode, missing, { try await client.delete(missing, version: nil) }),
                    (.noNode, missing, { _ = try await client.accessControl(missing) }),
                    (.noNode, "\(missing)/x", { try await client.create("\(missing)/x") }),
                    (.nodeExists, "\(root)/parent", { try await client.create("\(root)/parent") }),
                    (.badVersion, "\(root)/parent", { try await client.set("\(root)/parent", [], version: 5) }),
                    (.badVersion, "\(root)/parent", { try await client.delete("\(root)/parent", version: 5) }),
                    (.notEmpty, "\(root)/parent", { try await client.delete("\(root)/parent", version: nil) }),
                    (
                        .noChildrenForEphemerals, "\(root)/parent/child/x",
                        { try await client.create("\(root)/parent/child/x") }
                    ),
                    (
                        .badVersion, "\(root)/parent",
                        {
                            try await client.setAccessControl(
                                "\(root)/parent", AccessControl.openUnsafe, aclVersion: 9)
                        }
                    ),
                    (
                        .invalidACL, "\(root)/x",
                        { try await client.create("\(root)/x", [], mode: .persistent, acl: AccessControl.creatorAll) }
                    ),
                ]
                for (code, path, body) in cases {
                    let error = await storeError(body)
                    #expect(error?.code == code)
                    #expect(error?.path == path)
                    #expect(error?.rawCode != nil)
                    #expect(error?.isRetriable == false)
                    #expect(error?.message.isEmpty == false)
                }
            }
        }

        @Test func P25_badArgumentsNeverReachTheLibrary() async throws {
            try await withClient { client, root in
                let big = [UInt8](repeating: 0, count: 1_100_000)
                let session = try sessionID(client)
                for body in [
                    { _ = try await client.get("no-slash") },
                    { _ = try await client.get("\(root)/a/") },
                    { try await client.create("\(root)//a") },
                    { try await client.create("\(root)/a", [], mode: .persistent, acl: []) },
                    { try await client.set(root, big, version: nil) },
                    { try await client.create("\(root)/big", big) },
                    { try await client.multi([.check("bad", version: 0)]) },
                    { try await client.multi([.set(root, data: big, version: nil)]) },
                    {
                        try await client.multi([
                            .check(root, version: 0),
                            .create("\(root)/c", data: [], mode: .container, acl: AccessControl.openUnsafe),
                        ])
                    },
                ] as [() async throws -> Void] {
                    let error = await storeError(body)
                    #expect(error?.code == .badArguments)
                    #expect(error?.rawCode == nil, "nothing was sent")
                }
                #expect(try sessionID(client) == session, "and the connection is whole")
            }
        }

        @Test func childrenAreNamed() async throws {
            try await withClient { client, root in
                #expect(try await client.children(root).names == [])
                let names = Set((0..<50).map { "child-\($0)-ü" })
                for name in names { try await client.create("\(root)/\(name)") }
                let children = try await client.children(root)
                #expect(Set(children.names) == names)
                #expect(children.stat.childCount == 50)
                try await client.sync(root)
                try await client.sync("/")
            }
        }

        @Test func P24_aMultiIsAllOrNothing() async throws {
            try await withClient { client, root in
                #expect(try await client.multi([]) == [])
                try await client.create("\(root)/a", [1])
                try await client.create("\(root)/gone", [1])
                let results = try await client.multi([
                    .check("\(root)/a", version: 0),
                    .create("\(root)/b", data: [2], mode: .persistent, acl: AccessControl.openUnsafe),
                    .create("\(root)/s-", data: [3], mode: .ephemeralSequential, acl: AccessControl.openUnsafe),
                    .set("\(root)/a", data: [9, 9], version: 0),
                    .delete("\(root)/gone", version: nil),
                    .set("\(root)/b", data: [], version: nil),
                ])
                #expect(results.count == 6)
                #expect(results[0] == .checked)
                #expect(results[1] == .created("\(root)/b"))
                guard case .created(let sequential) = results[2] else {
                    Issue.record("no path: \(results[2])")
                    return
                }
                #expect(sequential.hasPrefix("\(root)/s-00000000"))
                #expect(try await client.get(sequential).data == [3])
                #expect(results[3] == .set(try await client.get("\(root)/a").stat))
                #expect(results[4] == .deleted)
                #expect(try await client.get("\(root)/b").stat.version == 1)

                let before = try await client.get("\(root)/a")
                for (index, code, failing) in [
                    (2, .badVersion, .check("\(root)/a", version: 77)),
                    (2, .nodeExists, .create("\(root)/b", data: [], mode: .persistent, acl: AccessControl.openUnsafe)),
                    (2, .noNode, .delete("\(root)/gone", version: nil)),
                    (2, .badVersion, .set("\(root)/b", data: [], version: 0)),
                ] as [(Int, StoreError.Code, StoreOperation)] {
                    let error = await storeError {
                        try await client.multi([
                            .set("\(root)/a", data: [0], version: nil),
                            .create("\(root)/never", data: [], mode: .persistent, acl: AccessControl.openUnsafe),
                            failing,
                            .delete("\(root)/b", version: nil),
                        ])
                    }
                    #expect(error?.code == code)
                    #expect(error?.operationIndex == index)
                    #expect(error?.path?.hasPrefix(root) == true)
                }
                #expect(try await client.get("\(root)/a") == before)
                #expect(try await client.exists("\(root)/never") == nil)
                #expect(try await client.exists("\(root)/b") != nil)
            }
        }

        @Test func P24_largeMultisOverlap() async throws {
            try await withClient { client, root in
                try await withThrowingTaskGroup(of: [StoreOperationResult].self) { group in
                    for batch in 0..<10 {
                        group.addTask {
                            try await client.multi(
                                (0..<100).map {
                                    .create(
                                        "\(root)/\(batch)-\($0)-", data: [UInt8](repeating: 1, count: 100),
                                        mode: .persistentSequential, acl: AccessControl.openUnsafe)
                                })
                        }
                    }
                    var paths: Set<String> = []
                    for try await results in group {
                        for result in results {
                            if case .created(let path) = result { paths.insert(path) }
                        }
                    }
                    #expect(paths.count == 1_000)
                    #expect(
                        Set(try await client.children(root).names.map { "\(root)/\($0)" }) == paths)
                }
            }
        }

        @Test func aChrootIsInvisible() async throws {
            let address = try await SharedServer.address()
            try await withClient { outside, root in
                try await ZooKeeperClient.withClient(
                    try configuration(address, chroot: root), logger: testLogger()
                ) { client in
                    #expect(try await client.create("/a", [1]) == "/a")
                    #expect(try await client.create("/a/s", mode: .persistentSequential) == "/a/s0000000000")
                    #expect(
                        try await client.multi([
                            .create("/b-", data: [], mode: .persistentSequential, acl: AccessControl.openUnsafe),
                            .set("/a", data: [2], version: 0),
                        ]).first == .created("/b-0000000001"))
                    #expect(Set(try await client.children("/").names) == ["a", "b-0000000001"])
                    #expect(try await outside.get("\(root)/a").data == [2])
                    let events = Recorder<WatchEvent>()
                    _ = try await client.get("/a") { events.record($0) }
                    try await outside.set("\(root)/a", [3], version: nil)
                    try await events.eventually("the change") { $0 == [.changed] }
                    let single = await storeError { try await client.get("/zz") }
                    #expect(single?.path == "/zz")
                    let multi = await storeError { try await client.multi([.check("/zz", version: 0)]) }
                    #expect(multi?.path == "/zz")
                    try await client.sync("/")
                }
                try await ZooKeeperClient.withClient(
                    try configuration(address, chroot: "\(root)/nowhere"), logger: testLogger()
                ) { client in
                    await expectError(.noNode) { try await client.create("/a") }
                }
            }
        }

        @Test func digestCredentialsOpenWhatTheyClosed() async throws {
            let address = try await SharedServer.address()
            let ann = try ZooKeeperCredential.digest(user: "ann", password: "opensesame-1")
            let bob = try ZooKeeperCredential.digest(user: "bob", password: "opensesame-2")
            try await withClient(try configuration(address, authentication: [ann, bob])) { owner, root in
                let path = try await owner.create("\(root)/mine", [1], mode: .persistent, acl: AccessControl.creatorAll)
                let (acl, stat) = try await owner.accessControl(path)
                #expect(acl.map(\.scheme) == ["digest", "digest"])
                #expect(Set(acl.map { $0.identity.prefix(4) }) == ["ann:", "bob:"])
                #expect(acl.allSatisfy { $0.permissions == .all })
                try await withClient { stranger, _ in
                    await expectError(.noAuthentication) { try await stranger.get(path) }
                    await expectError(.noAuthentication) { try await stranger.set(path, [], version: nil) }
                    await expectError(.noAuthentication) { try await stranger.children(path, onEvent: { _ in }) }
                    try await stranger.addAuthentication(bob)
                    #expect(try await stranger.get(path).data == [1])
                    try await stranger.setAccessControl(path, AccessControl.openUnsafe, aclVersion: stat.aclVersion)
                }
                #expect(try await owner.accessControl(path).acl == AccessControl.openUnsafe)
                #expect(try await owner.accessControl(path).stat.aclVersion == stat.aclVersion + 1)
            }
        }

        @Test func P33_refusedCredentialsCostTheSessionAndNothingElse() async throws {
            try await withClient { client, root in
                let before = try sessionID(client)
                let unknown = try ZooKeeperCredential(scheme: "no-such-scheme", secret: [1])
                await expectError(.authenticationFailed) { try await client.addAuthentication(unknown) }
                // A new session comes by itself.
                #expect(try await client.exists(root) != nil)
                #expect(try sessionID(client) != before)
            }
        }

        @Test func wrongConfiguredCredentialsAreToldToWhoWaits() async throws {
            let unknown = try ZooKeeperCredential(scheme: "no-such-scheme", secret: [1])
            let address = try await SharedServer.address()
            let error = await storeError {
                try await ZooKeeperClient.withClient(
                    try configuration(address, authentication: [unknown]), logger: testLogger(),
                    connectTimeoutMilliseconds: 20_000
                ) { _ in () }
            }
            #expect(error?.code == .authenticationFailed)
        }

        @Test func P31_aProtectedCreateIsFoundAgain() async throws {
            try await withClient { client, root in
                let path = try await client.createProtected("\(root)/n-", [1], mode: .ephemeralSequential, token: "abc")
                #expect(path == "\(root)/_c_abc-n-0000000000")
                await expectError(.badArguments) { try await client.createProtected("\(root)/n", mode: .persistent) }
            }
        }

        @Test func P16_callbacksMayBeMadeAnywhere() async throws {
            try await onTheMainActor()
        }

        /// A closure that is made here inherits the main actor; called on the library's thread it must not trap.
        @MainActor private func onTheMainActor() async throws {
            let address = try await SharedServer.address()
            let client = ZooKeeperClient(configuration: try configuration(address), logger: testLogger())
            client.start()
            let root = try await client.create("/test-\(randomToken())")
            let events = Recorder<WatchEvent>()
            _ = try await client.get(root) { events.record($0) }
            try await client.set(root, [1], version: nil)
            try await events.eventually("the change") { $0 == [.changed] }
            await client.close()
        }

        @Test func P27_theLibrarysLogArrivesWithoutSecrets() async throws {
            let address = try await SharedServer.address()
            let secret = "opensesame-\(randomToken())"
            LibraryLog.install(testLogger(), replacing: true)
            try await withClient(
                try configuration(address, authentication: [.digest(user: "u", password: secret)])
            ) { client, root in
                _ = try await client.get(root)
            }
            try await eventually("lines of the library") {
                CapturingLogHandler.lines.with { lines in lines.contains { $0.text.hasPrefix("ZooKeeper library: ") } }
            }
            CapturingLogHandler.lines.with { lines in
                #expect(!lines.contains { $0.text.contains("opensesame") })
            }
        }
    }
}
