/// Whose turn it is to be told that a hot key's value is gone, one at a time for the whole agent.
///
/// A value that is gone (its node came back empty, it expired, it was evicted or deleted) makes every reader turn to the database at once.
/// So of the reads of one command that find nothing, one an interval is told so, and makes what is missing; the others are held
/// (``MissHold``) until there is a value.
///
/// What it promises, whatever loops ask in whatever order:
/// - **At most one turn an interval** for a command, also where the value comes and goes again within one.
/// - **Nobody waits for what was never there.** Only a value that this agent has seen can be gone; whoever asks for another is ``Answer/free``
///   to be told at once that there is none.
/// - **Nor for what nobody makes.** A value that has not come back within `HotKeyMitigationLimits.missEpisodeNanosecondsMax` was deleted
///   for good, as it seems: everybody is free then, and for `HotKeyMitigationLimits.missRestNanoseconds` also when it goes again.
/// - **Bounded**: what goes beyond `HotKeyMitigationLimits.missCommandsMax` commands, and `missCommandsPerKeyMax` of a key, is free.
///
/// Times are nanoseconds of one monotonic clock. Used from one event loop, on behalf of all.
public struct MissTurns: Sendable {
    public enum Answer: Sendable, Hashable {
        /// It is no value that is gone: whoever asks is told so.
        case free
        /// Whoever asks is told so, and nobody else for an interval.
        case turn
        /// Somebody has been told so; ask again then.
        case wait(until: UInt64)
    }

    private struct State {
        let key: [UInt8]
        /// Seen since it was last found gone.
        var hasValue = true
        var goneSince: UInt64?
        var turnAt: UInt64?
        var restsUntil: UInt64 = 0
    }

    private var states: [[UInt8]: State] = [:]
    private var known = CommandsByKey()

    public init() {}

    public var commandCount: Int { states.count }

    /// A read by this command has brought a value.
    /// - Returns: whether it was gone, so that reads may be held for it.
    public mutating func valueSeen(_ command: [UInt8], of key: [UInt8]) -> Bool {
        guard var state = states[command] else {
            if known.insert(command, of: key) { states[command] = State(key: key) }
            return false
        }
        let wasGone = state.goneSince != nil
        state.hasValue = true
        state.goneSince = nil
        states[command] = state
        return wasGone
    }

    /// A read by this command has found nothing.
    ///
    /// - Parameters:
    ///   - wantsTurn: whether somebody is there who could be told; if not, no turn is spent.
    ///   - isFirst: set where it has been there until now. Whoever remembers that it has been seen is to forget it.
    public mutating func missed(
        _ command: [UInt8], intervalNanoseconds: UInt64, wantsTurn: Bool, now: UInt64, isFirst: inout Bool
    ) -> Answer {
        guard var state = states[command] else { return .free }
        defer { states[command] = state }
        let goneSince: UInt64
        if let since = state.goneSince {
            goneSince = since
        } else {
            guard state.hasValue else { return .free }
            isFirst = true
            state.hasValue = false
            guard now >= state.restsUntil else { return .free }
            state.goneSince = now
            goneSince = now
        }
        guard now - min(now, goneSince) < HotKeyMitigationLimits.missEpisodeNanosecondsMax else {
            state.goneSince = nil
            state.restsUntil = saturatingSum(now, HotKeyMitigationLimits.missRestNanoseconds)
            return .free
        }
        if let turnAt = state.turnAt, now - min(now, turnAt) < intervalNanoseconds {
            return .wait(until: saturatingSum(turnAt, intervalNanoseconds))
        }
        guard wantsTurn else { return .wait(until: now) }
        state.turnAt = now
        return .turn
    }

    /// Forgets what is known of keys that are hot no more.
    public mutating func keep(where isHot: (_ key: [UInt8]) -> Bool) {
        states = states.filter { isHot($0.value.key) }
        known = CommandsByKey()
        for (command, state) in states { _ = known.insert(command, of: state.key) }
    }
}

/// Commands that have brought a value, so many of a key and in all.
public struct CommandsByKey: Sendable {
    private var commands: [[UInt8]: Set<[UInt8]>] = [:]
    public private(set) var count = 0

    public init() {}

    /// - Returns: whether it is new and there was room for it.
    public mutating func insert(_ command: [UInt8], of key: [UInt8]) -> Bool {
        guard count < HotKeyMitigationLimits.missCommandsMax else { return false }
        guard commands[key]?.count ?? 0 < HotKeyMitigationLimits.missCommandsPerKeyMax,
            commands[key, default: []].insert(command).inserted
        else { return false }
        count += 1
        return true
    }

    public mutating func remove(_ command: [UInt8], of key: [UInt8]) {
        guard commands[key]?.remove(command) != nil else { return }
        if commands[key]!.isEmpty { commands[key] = nil }
        count -= 1
    }
}
