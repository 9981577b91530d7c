/// The copies of all keys, from the coordinator's side: when they are filled, when agents may read them, when they are removed.
/// Pure: told what is wanted and what became of what it asked for, it says what each key's record is to say and what to do next.
///
///              want n                 filled, or the time for it is over
///     nothing ───────▶ warming ────────────────────────────────────────▶ ready
///        ▲               │  ▲                                              │
///        │        want 0 │  │ want n                     want more: warming│
///        │               ▼  │                        want fewer: ready, the │
///        └──── removed ─ leaving ◀───────────────────── others are removed ─┘ want 0
///
/// - **warming**: agents leave tombstones and read no copy. The fill waits until agents have done so for a copy's lifetime: before that
///   none of them could read a copy (`CopyReadGate`), and what was filled would be gone by then.
/// - **ready**: agents read copies, and fill again what they find expired.
/// - **leaving**: nobody reads or fills. Then what is there is deleted.
///
/// No guarantee rests on these states: which copy an agent may read without going back behind its own writes is for its
/// `CopyReadGate`, and every copy ends by itself (`CopyLease`). An agent that hears late of a state, or of none, finds a copy missing and
/// asks home, or fills one that is removed a moment later and expires. A copy that is deleted is to the protocol one that its node has
/// evicted, tombstones included.
///
/// All times are of one monotonic clock, in nanoseconds.
public struct CopyLifecycle: Sendable {
    public enum State: String, Sendable, Hashable, CaseIterable {
        case warming, ready, leaving
    }

    /// What a key's record says of its copies.
    public struct Published: Sendable, Hashable {
        public var state: State
        public var copies: Int

        public init(state: State, copies: Int) {
            self.state = state
            self.copies = copies
        }
    }

    /// What is to be done; say what became of it with ``done(_:succeeded:now:)``.
    public struct Job: Sendable, Hashable {
        public enum Work: Sendable, Hashable {
            /// Store home's value in copies 1 to `copies`.
            case fill(copies: Int)
            /// Delete these copies.
            case remove(ClosedRange<Int>)
        }
        public var key: [UInt8]
        public var work: Work
        /// Tells a job from one that was overtaken by a change.
        let number: UInt64
    }

    fileprivate struct Entry: Sendable {
        var published: Published
        var lifetimeNanoseconds: UInt64
        /// When the state was decided.
        var since: UInt64
        /// When it was seen to stand in the registry; nil while it has not been.
        var announcedAt: UInt64?
        var nextTryAt: UInt64 = 0
        var tries = 0
        var underWay: UInt64?
        /// A fill that is due although the copies are ready: the nodes are others.
        var refillAt: UInt64?
        /// Copies above those that are wanted, up to this number, may be left from before.
        var excessUpTo = 0
        var excessDueAt: UInt64 = 0
    }

    private var entries: [[UInt8]: Entry] = [:]
    private var lastNumber: UInt64 = 0
    /// Keys that have something due at some time; the others need no look.
    private var waiting: Set<[UInt8]> = []

    public init() {}

    /// Keys that have copies, or have had them a moment ago.
    public var keys: [[UInt8]] { Array(entries.keys) }

    public func published(_ key: [UInt8]) -> Published? { entries[key]?.published }

    /// How many keys are in each state.
    public var counts: [State: Int] {
        entries.values.reduce(into: [:]) { $0[$1.published.state, default: 0] += 1 }
    }

    // MARK: What is wanted

    /// Takes over what another coordinator has published. It may have died before or after anything, so what was under way begins anew.
    public mutating func adopt(_ key: [UInt8], _ published: Published, now: UInt64) {
        entries[key] = Entry(published: published, lifetimeNanoseconds: 0, since: now, announcedAt: now)
        waiting.insert(key)
    }

    /// How many copies a key is to have from now on; 0 for none.
    /// - Parameter lifetimeNanoseconds: of its copies.
    /// - Returns: whether its record changes.
    public mutating func want(_ key: [UInt8], copies: Int, lifetimeNanoseconds: UInt64, now: UInt64) -> Bool {
        guard var entry = entries[key] else {
            guard copies > 0 else { return false }
            entries[key] = Entry(
                published: Published(state: .warming, copies: copies), lifetimeNanoseconds: lifetimeNanoseconds,
                since: now)
            waiting.insert(key)
            return true
        }
        let before = entry.published
        defer { entries[key] = entry }
        if copies > 0, entry.lifetimeNanoseconds != lifetimeNanoseconds {
            if before.state == .ready { entry.refill(at: now &+ max(entry.lifetimeNanoseconds, lifetimeNanoseconds)) }
            entry.lifetimeNanoseconds = lifetimeNanoseconds
            waiting.insert(key)
        }
        guard copies > 0 else {
            guard before.state != .leaving else { return false }
            let all = max(before.copies, entry.excessUpTo)
            entry.enter(Published(state: .leaving, copies: all), now)
            entry.excessUpTo = 0
            waiting.insert(key)
            return true
        }
        guard before.state == .leaving || before.copies != copies else { return false }
        if copies < before.copies {
            entry.excessUpTo = max(entry.excessUpTo, before.copies)
            entry.excessDueAt = now &+ HotKeyMitigationLimits.copyRemovalDelayNanoseconds
        } else if entry.excessUpTo <= copies {
            entry.excessUpTo = 0
        }
        if before.state == .leaving || copies > before.copies {
            entry.enter(Published(state: .warming, copies: copies), now)
        } else {
            entry.published.copies = copies
        }
        waiting.insert(key)
        return true
    }

    /// Copies lie elsewhere from now on. Agents stay away from all of them for a lifetime by themselves; when that is over, the new ones
    /// are there.
    public mutating func placesChanged(now: UInt64) {
        for (key, entry) in entries where entry.published.state == .ready {
            entries[key]?.refill(at: now &+ entry.lifetimeNanoseconds)
            waiting.insert(key)
        }
    }

    // MARK: Time

    /// Keys whose state has not been seen in the registry yet.
    public var unannounced: [[UInt8]] { waiting.filter { entries[$0]?.announcedAt == nil } }

    /// The registry says so of a key.
    public mutating func announced(_ key: [UInt8], _ published: Published?, now: UInt64) {
        guard let entry = entries[key], entry.announcedAt == nil, published == entry.published else { return }
        entries[key]?.announcedAt = now
    }

    /// What is due, at most so much; and, in `changed`, keys whose records change because a time is over.
    public mutating func due(now: UInt64, jobsMax: Int) -> (jobs: [Job], changed: [[UInt8]]) {
        var jobs: [Job] = []
        var changed: [[UInt8]] = []
        var due: [(key: [UInt8], work: Job.Work)] = []
        for key in Array(waiting) {
            switch entries[key]?.next(now: now) ?? .nothing {
            case .nothing: waiting.remove(key)
            case .wait: break
            case .work(let work): due.append((key, work))
            }
        }
        // In an order of their own, so that the same events give the same jobs.
        for (key, work) in due.sorted(by: { $0.key.lexicographicallyPrecedes($1.key) }) {
            if let entry = entries[key], entry.tries >= HotKeyMitigationLimits.copyTriesMax {
                // Nothing was ever heard of the last one.
                if end(key, work, now) { changed.append(key) }
                continue
            }
            guard jobs.count < jobsMax else { continue }
            lastNumber += 1
            entries[key]?.underWay = lastNumber
            entries[key]?.nextTryAt = now &+ HotKeyMitigationLimits.copyJobNanosecondsMax
            entries[key]?.tries += 1
            jobs.append(Job(key: key, work: work, number: lastNumber))
        }
        return (jobs, changed)
    }

    /// What became of a job.
    /// - Returns: whether the key's record changes.
    public mutating func done(_ job: Job, succeeded: Bool, now: UInt64) -> Bool {
        guard let entry = entries[job.key], entry.underWay == job.number else { return false }
        entries[job.key]?.underWay = nil
        entries[job.key]?.nextTryAt = now &+ HotKeyMitigationLimits.copyRetryNanoseconds
        guard succeeded || entry.tries >= HotKeyMitigationLimits.copyTriesMax else { return false }
        return end(job.key, job.work, now)
    }

    /// The work is done, or given up: what could not be filled is left to its readers, what could not be deleted to its expiry.
    private mutating func end(_ key: [UInt8], _ work: Job.Work, _ now: UInt64) -> Bool {
        guard let entry = entries[key] else { return false }
        switch (work, entry.published.state) {
        case (.fill, .warming):
            entries[key]?.enter(Published(state: .ready, copies: entry.published.copies), now)
            return true
        case (.fill, _): entries[key]?.refillAt = nil
        case (.remove, .leaving):
            forget(key)
            return true
        case (.remove, _): entries[key]?.excessUpTo = 0
        }
        entries[key]?.tries = 0
        entries[key]?.nextTryAt = 0
        return false
    }

    private mutating func forget(_ key: [UInt8]) {
        entries[key] = nil
        waiting.remove(key)
    }
}

extension CopyLifecycle.Entry {
    fileprivate enum Next {
        /// Until something changes.
        case nothing
        /// For a time or an outcome.
        case wait
        case work(CopyLifecycle.Job.Work)
    }

    fileprivate mutating func enter(_ new: CopyLifecycle.Published, _ now: UInt64) {
        published = new
        since = now
        announcedAt = nil
        nextTryAt = 0
        tries = 0
        underWay = nil
        refillAt = nil
    }

    fileprivate mutating func refill(at time: UInt64) {
        refillAt = time
        underWay = nil
        nextTryAt = 0
        tries = 0
    }

    fileprivate func next(now: UInt64) -> Next {
        guard now >= nextTryAt else { return .wait }
        switch published.state {
        case .warming:
            // As long as it does not stand in the registry nobody leaves tombstones.
            guard let announcedAt, now >= announcedAt &+ fenceNanoseconds else { return .wait }
            return .work(.fill(copies: published.copies))
        case .ready:
            if let refillAt {
                guard now >= refillAt else { return .wait }
                return .work(.fill(copies: published.copies))
            }
            guard excessUpTo > published.copies else { return announcedAt == nil ? .wait : .nothing }
            return now >= excessDueAt ? .work(.remove((published.copies + 1)...excessUpTo)) : .wait
        case .leaving:
            let heardAt = announcedAt ?? since &+ HotKeyMitigationLimits.copyAnnouncementNanosecondsMax
            guard now >= heardAt &+ HotKeyMitigationLimits.copyRemovalDelayNanoseconds else { return .wait }
            return .work(.remove(1...max(1, published.copies)))
        }
    }

    /// From when the state is known here until the last agent may read copies.
    private var fenceNanoseconds: UInt64 {
        saturatingSum(
            lifetimeNanoseconds,
            HotKeyMitigationLimits.copySlackNanoseconds + HotKeyMitigationLimits.copySettleNanoseconds)
    }
}
