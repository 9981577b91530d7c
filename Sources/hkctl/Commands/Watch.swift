import ArgumentParser
import HotKeyRegistry
import StrictCoding

struct Watch: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print one line a change, until Ctrl-C.",
        discussion: """
            Keys that change state or that another source names, pins and denies that come, go and expire, new mode, rules \
            and topology, and the connection to ZooKeeper. Changes that follow each other faster than they can be read may \
            be seen as one. With --output json every line is one JSON object. SIGINT and SIGTERM end it with status 0.
            """)

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        try await global.withSession { session in
            // Explains itself when the app is not initialised; the subscriber would wait for it.
            _ = try await session.registry.control()
            let interrupts = Interrupts()
            let subscriber = RegistrySubscriber(
                store: session.client, paths: session.paths, logger: WarningLog.registry)
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await subscriber.run() }
                group.addTask { try await Follower(session: session, subscriber: subscriber).run() }
                group.addTask { await interrupts.wait() }
                defer { group.cancelAll() }
                try await group.next()
            }
        }
    }
}

/// Turns snapshots, and the passing of time, into lines.
private struct Follower: Sendable {
    let session: Session
    let subscriber: RegistrySubscriber

    func run() async throws {
        let (wakeups, wake) = AsyncStream.makeStream(of: Void.self, bufferingPolicy: .bufferingNewest(1))
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { for await _ in subscriber.updates { wake.yield() } }
            group.addTask {
                while true {
                    try await Task.sleep(for: .milliseconds(ControlLimits.expiryCheckMilliseconds))
                    wake.yield()
                }
            }
            defer { group.cancelAll() }
            try await follow(wakeups)
        }
    }

    private func follow(_ wakeups: AsyncStream<Void>) async throws {
        var known: WatchedState?
        for await _ in wakeups {
            let now = Timestamp.now
            let snapshot = subscriber.current
            if let known, known.isCurrent(snapshot, at: now) { continue }
            // What was there before is no change: the first complete view is where watching starts.
            guard known != nil || snapshot.view == .fresh else { continue }
            let next = WatchedState(snapshot, at: now)
            if let known {
                for change in next.changes(since: known, at: now) { try print(change) }
            } else {
                Console.complain(
                    "Watching \(session.app) at \(session.options.servers): \(next.summary). Ctrl-C ends it.")
            }
            known = next
        }
    }

    private func print(_ change: RegistryChange) throws {
        switch session.options.output {
        case .table: Console.write(change.line + "\n")
        case .json: Console.write(String(decoding: try StrictEncoder.encode(change), as: UTF8.self) + "\n")
        }
    }
}
