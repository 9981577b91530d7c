import Logging
import Testing

@testable import ZooKeeper

@Suite struct BackOffTests {
    @Test func fullJitterBetweenZeroAndACeilingThatDoubles() {
        var low = BackOff()
        var high = BackOff()
        var ceilings: [Int64] = []
        for _ in 0..<12 {
            #expect(low.next(random: 0) == 0)
            ceilings.append(high.next(random: 0.9999999))
        }
        #expect(
            ceilings.map { ($0 + 99) / 100 * 100 } == [
                100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000, 10_000, 10_000, 10_000,
            ])
        high.reset()
        #expect(high.next(random: 0.5) == 50)
    }
}

@Suite struct DeadlineQueueTests {
    @Test func comesOutInOrderOfTime() {
        var queue = DeadlineQueue()
        for id in (0..<1_000).shuffled() { queue.insert(UInt64(id), atMilliseconds: Int64(id * 10)) }
        var order: [UInt64] = []
        while let id = queue.takeDue(nowMilliseconds: 4_999) { order.append(id) }
        #expect(order == (0..<500).map(UInt64.init))
        #expect(queue.earliest { $0 >= 700 } == 7_000)
        #expect(queue.count == 300)
        #expect(queue.earliest { _ in false } == nil)
        #expect(queue.count == 0)
    }
}

@Suite struct NodePathTests {
    @Test(arguments: ["/", "/a", "/a/b", "/a-b_c.d/..e", "/ü/日本", "/a b"]) func good(_ path: String) {
        #expect(NodePath.fault(path, isSequential: false) == nil)
    }

    @Test(arguments: [
        "", "a", "a/b", "/a/", "//", "/a//b", "/.", "/..", "/a/./b", "/a/../b", "/a\u{0}", "/a\u{1f}b", "/\u{7f}",
        "/\u{e000}", "/\u{fff0}", "/😀",
    ])
    func P25_badPathsAreRefusedBeforeC(_ path: String) {
        #expect(NodePath.fault(path, isSequential: false) != nil)
    }

    @Test func sequentialNamesMayEndWithASlash() {
        #expect(NodePath.fault("/a/", isSequential: true) == nil)
        #expect(NodePath.fault("/a//", isSequential: true) != nil)
        #expect(NodePath.fault(String(repeating: "/a", count: 3_000), isSequential: true) != nil)
    }

    @Test func chrootIsPutBeforeAndTakenAway() {
        #expect(NodePath.absolute("/", chroot: "/c") == "/c")
        #expect(NodePath.absolute("/a", chroot: "/c/d") == "/c/d/a")
        #expect(NodePath.absolute("/a", chroot: nil) == "/a")
        #expect(NodePath.relative("/c/d/a", chroot: "/c/d") == "/a")
        #expect(NodePath.relative("/c", chroot: "/c") == "/")
        #expect(NodePath.split("/a/b") == ("/a", "b"))
        #expect(NodePath.split("/a") == ("/", "a"))
    }
}

@Suite struct ConfigurationTests {
    @Test func theUsualFormIsRead() throws {
        let configuration = try ZooKeeperConfiguration(connectString: "a:1, b.example:65535,[::1]:2181/x/y")
        #expect(configuration.servers == ["a:1", "b.example:65535", "[::1]:2181"])
        #expect(configuration.chroot == "/x/y")
        #expect(configuration.libraryConnectString == "a:1,b.example:65535,::1:2181")
        #expect(try ZooKeeperConfiguration(connectString: "a:1/").chroot == nil)
        #expect(try ZooKeeperConfiguration(connectString: "a:1").chroot == nil)
    }

    @Test(arguments: [
        ("", "servers[0]"), ("a", "servers[0]"), ("a:0", "servers[0]"), ("a:65536", "servers[0]"), (":1", "servers[0]"),
        ("a:1,,b:1", "servers[1]"), ("a:1,b c:1", "servers[1]"), ("a:1/x/", "chroot"), ("a:1//", "chroot"),
        ("::1:2181", "servers[0]"),
    ])
    func whatIsWrongIsNamed(_ text: String, _ place: String) {
        let error = #expect(throws: StoreError.self) { try ZooKeeperConfiguration(connectString: text) }
        #expect(error?.code == .badArguments)
        #expect(error?.message.contains(place) == true, "\(String(describing: error))")
    }

    @Test func rangesAreChecked() {
        for build in [
            { try ZooKeeperConfiguration(servers: ["a:1"], sessionTimeoutMilliseconds: 99) },
            { try ZooKeeperConfiguration(servers: ["a:1"], operationTimeoutMilliseconds: 0) },
            { try ZooKeeperConfiguration(servers: ["a:1"], maxInFlight: 0) },
            { try ZooKeeperConfiguration(servers: [], maxInFlight: 1) },
        ] as [() throws -> ZooKeeperConfiguration] {
            #expect(throws: StoreError.self) { try build() }
        }
    }

    @Test func P26_secretsAreNeverShown() throws {
        let configuration = try ZooKeeperConfiguration(
            servers: ["a:1"], authentication: [.digest(user: "ann", password: "opensesame")])
        var dumped = ""
        dump(configuration, to: &dumped)
        for text in ["\(configuration)", String(reflecting: configuration), dumped] {
            #expect(!text.contains("opensesame"))
            #expect(!text.contains("111, 112"), "not as bytes either")
            #expect(text.contains("hidden"))
        }
        #expect(throws: StoreError.self) { try ZooKeeperCredential.digest(user: "a:b", password: "") }
        #expect(throws: StoreError.self) { try ZooKeeperCredential(scheme: "", secret: [1]) }
        #expect(throws: StoreError.self) { try ZooKeeperCredential(scheme: "digest", secret: []) }
    }
}

@Suite struct LibraryLogLineTests {
    @Test func aLineIsTakenApart() {
        let line = LibraryLogLine(
            "2026-11-22 10:00:00,123:4567(0x7f00):ZOO_WARN@zookeeper_interest@1234: Delaying user@host: later\n")
        #expect(line.level == .notice)
        #expect(line.function == "zookeeper_interest")
        #expect(line.text == "Delaying user@host: later")
        #expect(line.statement == "zookeeper_interest@1234")
        #expect(LibraryLogLine("x:ZOO_ERROR@f@1: t").level == .warning)
        #expect(LibraryLogLine("x:ZOO_INFO@f@1: t").level == .debug)
        #expect(LibraryLogLine("x:ZOO_DEBUG@f@1: t").level == .trace)
        #expect(LibraryLogLine("something else").text == "something else")
        #expect(LibraryLogLine("x:ZOO_WARN@f@1: one").statement == LibraryLogLine("y:ZOO_WARN@f@1: two").statement)
        #expect(LibraryLogLine("x:ZOO_WARN@f@1: one").statement != LibraryLogLine("x:ZOO_WARN@f@2: one").statement)
    }
}

@Suite struct PendingOperationTests {
    /// A continuation that is resumed twice traps; one that is never resumed hangs the test.
    @Test func resumesOnceWhoeverIsFirst() async throws {
        for _ in 0..<500 {
            let pending = PendingOperation<Int>()
            let outcome = Task {
                try await withCheckedThrowingContinuation { pending.install($0) }
            }
            await withTaskGroup(of: Void.self) { group in
                for racer in 0..<4 {
                    group.addTask {
                        if racer % 2 == 0 {
                            pending.finish(.success(racer))
                        } else {
                            pending.abandon(CancellationError())
                        }
                    }
                }
            }
            let result = await outcome.result
            #expect(pending.isFinished)
            switch result {
            case .success: #expect(!pending.wasAbandoned)
            case .failure: #expect(pending.wasAbandoned)
            }
        }
    }
}
