import HotKeyTestSupport
import Testing
import ZooKeeper

extension WithServers {
    @Suite(.timeLimit(.minutes(2))) struct Watches {
        @Test func P10_twoWatchesOnOnePathBothFire() async throws {
            try await withClient { client, root in
                let events = Recorder<Int>()
                for number in 0..<5 {
                    _ = try await client.get(root) { _ in events.record(number) }
                }
                try await client.set(root, [1], version: nil)
                try await events.eventually("all five") { Set($0) == [0, 1, 2, 3, 4] }
                try await client.set(root, [2], version: nil)
                try await client.sync(root)
                #expect(events.all.count == 5, "a watch fires once")
            }
        }

        @Test func eachKindFiresForItsEvents() async throws {
            try await withClient { client, root in
                let events = Recorder<String>()
                let path = "\(root)/n"
                let missing = try await client.exists(path) { events.record("exists \($0)") }
                #expect(missing == nil)
                _ = try await client.children(root) { events.record("children \($0)") }
                try await client.create(path)
                try await events.eventually("creation") {
                    Set($0) == ["exists created", "children childrenChanged"]
                }
                _ = try await client.exists(path) { events.record("exists \($0)") }
                _ = try await client.get(path) { events.record("get \($0)") }
                try await client.set(path, [1], version: nil)
                try await events.eventually("change") { Set($0.suffix(2)) == ["exists changed", "get changed"] }
                _ = try await client.get(path) { events.record("get \($0)") }
                _ = try await client.children(path) { events.record("own children \($0)") }
                try await client.delete(path, version: nil)
                try await events.eventually("deletion") {
                    Set($0.suffix(2)) == ["get deleted", "own children deleted"]
                }
                #expect(events.all.count == 6)
            }
        }

        @Test func P11_onlyWhatSucceededIsWatched() async throws {
            try await withClient { client, root in
                let events = Recorder<WatchEvent>()
                let path = "\(root)/n"
                await expectError(.noNode) { try await client.get(path) { events.record($0) } }
                await expectError(.noNode) { try await client.children(path) { events.record($0) } }
                try await client.create(path)
                try await client.set(path, [1], version: nil)
                try await client.create("\(path)/child")
                try await client.sync(path)
                #expect(events.all.isEmpty)
            }
        }

        @Test func P14_eventsKeepTheirOrder() async throws {
            try await withClient { client, root in
                let events = Recorder<Int>()
                for number in 0..<200 {
                    let path = try await client.create("\(root)/\(number)")
                    _ = try await client.get(path) { _ in events.record(number) }
                }
                try await withClient { other, _ in
                    for number in 0..<200 { try await other.set("\(root)/\(number)", [], version: nil) }
                }
                try await events.eventually("all of them") { $0.count == 200 }
                #expect(events.all == Array(0..<200))
            }
        }

        @Test func P14_theEventOfAnOwnWriteComesBeforeItsReply() async throws {
            try await withClient { client, root in
                for round in 0..<50 {
                    let events = Recorder<WatchEvent>()
                    _ = try await client.get(root) { events.record($0) }
                    try await client.set(root, [UInt8(round)], version: nil)
                    #expect(events.all == [.changed])
                }
            }
        }

        @Test func P2_watchesHearOfTheClose() async throws {
            let events = Recorder<WatchEvent>()
            try await withClient { client, root in
                _ = try await client.get(root) { events.record($0) }
                _ = try await client.exists("\(root)/x") { events.record($0) }
                _ = try await client.children(root) { events.record($0) }
            }
            #expect(events.all == [.sessionLost, .sessionLost, .sessionLost])
        }

        @Test func P13_valuesAreSnapshotsOfTheNewest() async throws {
            try await withClient { client, root in
                let path = "\(root)/n"
                let seen = Recorder<[UInt8]?>()
                let reader = Task {
                    for try await snapshot in client.values(of: path) {
                        switch snapshot {
                        case .missing: seen.record(nil)
                        case .present(let value): seen.record(value.data)
                        }
                    }
                }
                try await seen.eventually("missing") { $0 == [nil] }
                try await client.create(path, [1])
                try await seen.eventually("creation") { $0 == [nil, [1]] }
                for number in 2...100 { try await client.set(path, [UInt8(number)], version: nil) }
                try await seen.eventually("the newest") { $0.last == [100] }
                let count = seen.all.count
                try await client.delete(path, version: nil)
                try await seen.eventually("deletion") { $0.count == count + 1 && $0.last == .some(nil) }
                try await client.create(path, [100])
                try await seen.eventually("another node of that name") { $0.count == count + 2 }
                let values = seen.all.compactMap { $0?.first }
                #expect(values.dropLast() == values.dropLast().sorted()[...], "never backward")
                reader.cancel()
                try await reader.value
            }
        }

        @Test func childrenAreSnapshotsToo() async throws {
            try await withClient { client, root in
                let path = "\(root)/n"
                let seen = Recorder<Set<String>?>()
                let reader = Task {
                    for try await snapshot in client.childrenValues(of: path) {
                        switch snapshot {
                        case .missing: seen.record(nil)
                        case .present(let children): seen.record(Set(children.names))
                        }
                    }
                }
                try await seen.eventually("missing") { $0 == [nil] }
                try await client.create(path)
                try await seen.eventually("no children") { $0.last == Set<String>() }
                for number in 0..<20 { try await client.create("\(path)/\(number)") }
                try await seen.eventually("twenty") { $0.last??.count == 20 }
                try await client.set(path, [1], version: nil)
                try await client.delete("\(path)/7", version: nil)
                try await seen.eventually("nineteen") { $0.last??.count == 19 }
                reader.cancel()
                try await reader.value
            }
        }

        @Test func sequencesEndWithTheClientAndThrowWhatCannotBeMended() async throws {
            let address = try await SharedServer.address()
            let ann = try ZooKeeperCredential.digest(user: "ann", password: "x")
            try await withClient(try configuration(address, authentication: [ann])) { owner, root in
                let path = try await owner.create("\(root)/mine", [], mode: .persistent, acl: AccessControl.creatorAll)
                let ended = try await withClient { client, other in
                    var iterator = client.values(of: path).makeAsyncIterator()
                    await expectError(.noAuthentication) { _ = try await iterator.next() }
                    let end = try await iterator.next()
                    #expect(end == nil)
                    return Task {
                        var count = 0
                        for try await _ in client.values(of: other) { count += 1 }
                        return count
                    }
                }
                #expect(try await ended.value <= 1)
            }
        }

        @Test func P9_P13_watchesSurviveARestartOfTheServer() async throws {
            let server = try await ZooKeeperServer.start()
            try await server.use { server in
                try await withClient(try configuration(server.address, session: 30_000, operation: 30_000)) {
                    client, root in
                    let before = try sessionID(client)
                    let seen = Recorder<[UInt8]>()
                    let events = Recorder<WatchEvent>()
                    let reader = Task {
                        for try await case .present(let value) in client.values(of: root) { seen.record(value.data) }
                    }
                    try await seen.eventually("the first value") { $0 == [[]] }
                    _ = try await client.exists("\(root)/x") { events.record($0) }
                    try await server.restart()
                    try await client.set(root, [1], version: nil)
                    try await seen.eventually("the change after the restart") { $0 == [[], [1]] }
                    try await client.create("\(root)/x")
                    try await events.eventually("creation") { $0 == [.created] }
                    #expect(try sessionID(client) == before)
                    reader.cancel()
                    try await reader.value
                }
            }
        }

        @Test func aChangeThatWasMissedWhileDisconnectedIsSeen() async throws {
            let server = try await SharedServer.shared.server()
            let proxy = try await FaultProxy.start(to: server)
            try await withClient(try configuration(proxy.address, session: 30_000)) { client, root in
                let seen = Recorder<[UInt8]>()
                let reader = Task {
                    for try await case .present(let value) in client.values(of: root) { seen.record(value.data) }
                }
                try await seen.eventually("the first value") { $0 == [[]] }
                try await proxy.cut()
                try await withClient { other, _ in
                    try await other.set(root, [1], version: nil)
                    try await other.set(root, [2], version: nil)
                }
                try await proxy.heal()
                try await seen.eventually("the newest only") { $0 == [[], [2]] }
                reader.cancel()
                try await reader.value
            }
            await proxy.stop()
        }
    }
}
