import ArgumentParser
import HotKeyPeer
import HotKeyRegistry
import StrictCoding

struct Top: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The busiest keys, live: rate, share, trend, state, and what is done with them.",
        discussion: """
            Asks the coordinating agent every --interval, until Ctrl-C, which ends it with status 0. Into a file or a pipe one \
            turn is written unless --count says otherwise. With --output json every turn is one line.
            """)

    @Option(help: ArgumentHelp("How long one turn lasts.", valueName: "time"))
    var interval = TimeSpan(milliseconds: ControlLimits.topIntervalMillisecondsDefault)

    @Option(help: ArgumentHelp("End after so many turns.", valueName: "n"))
    var count: Int?

    @Option(help: ArgumentHelp("Keys to show.", valueName: "n"))
    var keys = PeerLimits.topKeysDefault

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func validate() throws {
        let range = ControlLimits.topIntervalMillisecondsRange
        guard range.contains(interval.milliseconds) else {
            throw ValidationError(
                "--interval: \(TimeText.span(range.lowerBound)) to \(TimeText.span(range.upperBound)).")
        }
        guard count ?? 1 >= 1 else { throw ValidationError("--count: at least 1.") }
        guard PeerLimits.topKeysRange.contains(keys) else {
            throw ValidationError(
                "--keys: \(PeerLimits.topKeysRange.lowerBound) to \(PeerLimits.topKeysRange.upperBound).")
        }
    }

    func run() async throws {
        let terminal = Terminal.current
        let turns = count ?? (terminal.isScreen ? nil : 1)
        let follower = TopFollower(
            turns: turns, interval: interval.duration, keys: keys, output: global.output, terminal: terminal)
        try await global.withSession { session in
            let interrupts = Interrupts()
            try await withThrowingTaskGroup(of: Void.self) { group in
                group.addTask { try await follower.run(session) }
                group.addTask { await interrupts.wait() }
                defer { group.cancelAll() }
                try await group.next()
            }
        }
    }
}

/// Turn after turn. One without an answer is told of, and the next one tries again; without any answer at all it has failed.
private struct TopFollower: Sendable {
    /// Nil until interrupted.
    let turns: Int?
    let interval: Duration
    let keys: Int
    let output: OutputForm
    let terminal: Terminal

    func run(_ session: Session) async throws {
        var trends = RateTrends()
        var turn = 0
        var failure: Failure?
        var hasAnswer = false
        var next = ContinuousClock.now
        while true {
            turn += 1
            switch try await session.askCoordinator({ try await $0.top(keys) }) {
            case .success(let live):
                hasAnswer = true
                try write(TopReport(session.app, live, trends: trends.next(live.keys)))
            case .failure(let problem):
                failure = problem
                try Task.checkCancellation()
                // Alone it is the verb's own error.
                if turns != 1 { try write(TopReport(session.app, problem: problem.lines[0])) }
            }
            if let turns, turn >= turns { break }
            next = max(next + interval, .now)
            try await Task.sleep(until: next, clock: .continuous)
        }
        if let failure, !hasAnswer { throw failure }
    }

    private func write(_ report: TopReport) throws {
        switch output {
        case .table: Console.write(terminal.screen(report.text(terminal)))
        case .json: Console.write(String(decoding: try StrictEncoder.encode(report), as: UTF8.self) + "\n")
        }
    }
}
