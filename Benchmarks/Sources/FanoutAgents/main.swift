// The measured side of script/bench fanout: N subscribers, each with a session of its own, and one coordinator that publishes.
//
// usage: FanoutAgents HOST:PORT ROOT AGENTS
//
// Makes the app `bench` below ROOT and prints "ready" when every agent's view is fresh. Then, for each line "publish" on
// standard input, lets one more key turn hot and prints on one line: the bytes of the head, then for each agent the
// microseconds from before the publication to its being in the agent's snapshot. Ends with its input.

import Foundation
import HotKeyRegistry
import Logging
import ZooKeeper

let arguments = CommandLine.arguments
guard arguments.count == 4, let count = Int(arguments[3]), (1...5000).contains(count) else {
    FileHandle.standardError.write(Data("usage: FanoutAgents HOST:PORT ROOT AGENTS\n".utf8))
    exit(2)
}
let logger = Logger(label: "fanout") { _ in SwiftLogNoOpLogHandler() }
let configuration = try ZooKeeperConfiguration(
    servers: [arguments[1]], sessionTimeoutMilliseconds: 30_000, operationTimeoutMilliseconds: 60_000)
let paths = try RegistryPaths(root: arguments[2], app: "bench")

func client() async throws -> ZooKeeperClient {
    let client = ZooKeeperClient(configuration: configuration, logger: logger)
    client.start()
    try await client.waitUntilConnected()
    return client
}

let writer = try await client()
_ = try await RegistryOperator(store: writer, paths: paths, author: "bench").initialise(
    topology: TopologyDocument(nodes: [.init(name: "a", address: "127.0.0.1:6379")]))

/// One agent: a session, a subscriber, and when a publication arrived.
final class Agent: Sendable {
    let subscriber: RegistrySubscriber
    private let task: Task<Void, any Error>

    init() async throws {
        let subscriber = RegistrySubscriber(store: try await client(), paths: paths, logger: logger)
        self.subscriber = subscriber
        task = Task { try await subscriber.run() }
        for await snapshot in subscriber.updates where snapshot.view == .fresh { break }
    }

    /// When the publication is in the snapshot.
    func arrival(of position: HotPosition) async -> ContinuousClock.Instant {
        for await snapshot in subscriber.updates {
            if let current = snapshot.position, current >= position { return .now }
        }
        fatalError("the subscriber ended")
    }
}

var agents: [Agent] = []
for _ in 0..<count { agents.append(try await Agent()) }

let id = try AgentID("bench")
let (leaderships, led) = AsyncStream.makeStream(of: Leadership.self)
let election = LeaderElection(store: writer, paths: paths, id: id, logger: logger)
let candidacy = Task {
    try await election.run { leadership in
        led.yield(leadership)
        try await Task.sleep(for: .seconds(86_400))
    }
}
guard let leadership = await leaderships.first(where: { _ in true }) else { fatalError("nobody leads") }
let publisher = try await HotSetPublisher.open(
    store: writer, paths: paths, leadership: leadership, coordinator: id, logger: logger)
print("ready")
fflush(nil)

/// Publishes one more key; microseconds, by agent.
func publish(_ number: Int, _ publisher: HotSetPublisher, to agents: [Agent]) async throws -> [Int64] {
    let record = HotRecord(
        key: KeyName("bench:\(number)"), state: .hot, readsPerSecond: 5000, errorPerSecond: 12, copies: 3,
        sources: ["agents"], since: .now)
    let before = await publisher.position
    let next = HotPosition(epoch: before.epoch, version: before.version + 1)
    await publisher.submit([.set(record)])
    return try await withThrowingTaskGroup(of: Int64.self) { group in
        let start = ContinuousClock.now
        for agent in agents {
            group.addTask {
                let time = await agent.arrival(of: next) - start
                return Int64(time / .microseconds(1))
            }
        }
        try await publisher.flush()
        var times: [Int64] = []
        for try await time in group { times.append(time) }
        return times
    }
}

var number = 0
while let line = readLine() {
    guard line == "publish" else { fatalError("bad input") }
    number += 1
    let times = try await publish(number, publisher, to: agents)
    let bytes = try await writer.exists(paths.hot)?.dataLengthBytes ?? 0
    print(bytes, times.map(String.init).joined(separator: " "))
    fflush(nil)
}
exit(0)
