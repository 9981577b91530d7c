/// The reads that one event loop holds because the value they ask for is gone and another read has been told so (``MissTurns``).
///
/// Held reads of a command leave together when there is news of its key: they are carried out again then, and what they find is their
/// answer, or holds them again. One at a time they leave by turns, and each leaves at the latest when its own time is over; these two are
/// told what they find, whatever it is. Since every one that leaves reads again, nobody is answered with what was known before it was
/// held, so no write that was acknowledged meanwhile can be missed.
///
/// What it promises:
/// - **Nobody is held past its deadline**, if ``due(now:)`` is called at ``nextDue``; however often it leaves and comes back with the
///   deadline that it came with, which its driver hands back. The read that answers it takes its time beyond that.
/// - **Bounded**: at most `HotKeyMitigationLimits.missReadsMax` reads; who comes then is not held.
///
/// Times are nanoseconds of one monotonic clock. Used from one event loop.
public struct MissHold<Read> {
    public enum Action {
        /// Ask whose turn it is, and hand what is said to ``answered(_:of:intervalNanoseconds:now:)``.
        case ask(command: [UInt8], key: [UInt8])
        /// Their time is over: carry them out, and tell them what they find.
        case letGo([Read])
    }

    public enum Outcome {
        case nothing
        /// It is this one's turn.
        case turn(Read)
        /// Nobody is held for this any more.
        case letGo([Read])
    }

    private struct Held {
        let read: Read
        let deadline: UInt64
    }

    private struct Waiting {
        let key: [UInt8]
        /// In the order in which they came.
        var reads: [Held] = []
        var askAt: UInt64
        var isAsking = false
    }

    private var commands: [[UInt8]: Waiting] = [:]
    public private(set) var count = 0
    /// When to look again; nil while nothing is held.
    public private(set) var nextDue: UInt64?

    public init() {}

    public var isEmpty: Bool { count == 0 }

    public func isHolding(_ command: [UInt8]) -> Bool { commands[command] != nil }

    /// - Parameters:
    ///   - askAt: when the next turn may come; counts for the first one of a command.
    /// - Returns: false when there are too many.
    public mutating func hold(_ read: Read, of command: [UInt8], key: [UInt8], deadline: UInt64, askAt: UInt64) -> Bool
    {
        guard count < HotKeyMitigationLimits.missReadsMax else { return false }
        commands[command, default: Waiting(key: key, askAt: askAt)].reads.append(Held(read: read, deadline: deadline))
        count += 1
        let due = commands[command]!.isAsking ? deadline : min(deadline, commands[command]!.askAt)
        nextDue = min(nextDue ?? due, due)
        return true
    }

    /// What is to be done now. Deadlines that are close are taken together, the later ones ahead of their time.
    public mutating func due(now: UInt64) -> [Action] {
        var actions: [Action] = []
        let horizon = saturatingSum(now, HotKeyMitigationLimits.missReleaseNanoseconds)
        for command in Array(commands.keys) {
            var waiting = commands[command]!
            let over = waiting.reads.filter { $0.deadline <= horizon }
            if !over.isEmpty {
                waiting.reads.removeAll { $0.deadline <= horizon }
                count -= over.count
                actions.append(.letGo(over.map(\.read)))
            }
            if waiting.reads.isEmpty {
                commands[command] = nil
                continue
            }
            if !waiting.isAsking, waiting.askAt <= now {
                waiting.isAsking = true
                actions.append(.ask(command: command, key: waiting.key))
            }
            commands[command] = waiting
        }
        schedule()
        return actions
    }

    /// What was said to ``Action/ask(command:key:)``.
    public mutating func answered(
        _ answer: MissTurns.Answer, of command: [UInt8], intervalNanoseconds: UInt64, now: UInt64
    ) -> Outcome {
        // All may have left meanwhile; then the turn is nobody's.
        guard var waiting = commands[command] else { return .nothing }
        defer { schedule() }
        waiting.isAsking = false
        switch answer {
        case .free:
            return .letGo(release(command))
        case .wait(let until):
            waiting.askAt = until
            commands[command] = waiting
            return .nothing
        case .turn:
            waiting.askAt = saturatingSum(now, intervalNanoseconds)
            let next = waiting.reads.removeFirst()
            count -= 1
            commands[command] = waiting.reads.isEmpty ? nil : waiting
            return .turn(next.read)
        }
    }

    /// There is a value, or a read failed: those who wait for it, to be carried out anew.
    public mutating func release(_ command: [UInt8]) -> [Read] {
        guard let waiting = commands.removeValue(forKey: command) else { return [] }
        count -= waiting.reads.count
        schedule()
        return waiting.reads.map(\.read)
    }

    /// There is news of a key.
    public mutating func release(key: [UInt8]) -> [Read] {
        commands.filter { $0.value.key == key }.keys.flatMap { release($0) }
    }

    /// Those of keys that are not to be held for any more.
    public mutating func release(whereKey isMeant: ([UInt8]) -> Bool) -> [Read] {
        commands.filter { isMeant($0.value.key) }.keys.flatMap { release($0) }
    }

    /// Takes out those that are meant.
    public mutating func take(where isMeant: (Read) -> Bool) -> [Read] {
        var taken: [Read] = []
        for command in Array(commands.keys) {
            let meant = commands[command]!.reads.filter { isMeant($0.read) }
            guard !meant.isEmpty else { continue }
            commands[command]!.reads.removeAll { isMeant($0.read) }
            if commands[command]!.reads.isEmpty { commands[command] = nil }
            taken += meant.map(\.read)
        }
        count -= taken.count
        schedule()
        return taken
    }

    private mutating func schedule() {
        nextDue = nil
        for waiting in commands.values {
            if !waiting.isAsking { nextDue = min(nextDue ?? waiting.askAt, waiting.askAt) }
            for held in waiting.reads { nextDue = min(nextDue ?? held.deadline, held.deadline) }
        }
    }
}
