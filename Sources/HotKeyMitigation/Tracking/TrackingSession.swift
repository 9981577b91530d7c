/// One agent's tracking connection to one node, as decisions: when to connect, when what came over it may no longer be relied on,
/// when to try again. The driver does what it is told and reports what happens.
///
/// What rests on it: a value that came over the connection while it tracks is current, but for what is on its way, until the node
/// says otherwise, **as long as the node can say so**. A connection may be cut without a sign (a router that forgets it, a host that
/// vanishes), and then silence looks like "nothing changed". So the node is asked once a second, on this very connection. The node
/// answers in order: the answer to a question that was sent at `t` proves that everything it had to say by `t` has arrived. When
/// the last moment proven so is `HotKeyMitigationLimits.trackingSilenceNanosecondsMax` ago, what came over the connection is
/// flushed, however much may still be dripping out of it: bytes that were held up for longer prove nothing.
///
/// Every connection that tracks has a source number of its own. Values carry it, so that a flush finds them, also after the
/// key's home has changed.
///
/// Times are nanoseconds of one monotonic clock.
public struct TrackingSession: Sendable {
    public enum Event: Sendable, Equatable {
        /// A read of a hot key would go over the connection.
        case wanted
        /// The node tracks what is read over the connection from now on.
        case armed
        /// The node does not track for this agent: it is too old, or its user may not ask for it.
        case refused(String)
        /// The node answered what was sent at that time.
        case answered(sentAt: UInt64)
        /// The node's whole data set changed (`FLUSHALL`, a replica that took over another's data).
        case emptied
        /// The connection ended, or could not be made.
        case lost
        /// No hot key lives on the node any more: it left the topology, or nothing is to be cached.
        case unneeded
        /// Time passes. To be told about ten times a second.
        case tick
    }

    public enum Action: Sendable, Equatable {
        case connect
        case probe
        case close
        /// Reads may go over the connection; what they bring carries this number.
        case serve(source: UInt32)
        /// What carries this number must not be served any more while home can be asked.
        case flush(source: UInt32, TrackingFlush)
        /// The node refused for a reason that is not the one told last.
        case tell(refusal: String)
    }

    private enum Phase: Sendable, Equatable {
        case idle
        case connecting(since: UInt64)
        case tracking(source: UInt32)
        case waiting(until: UInt64)
        case refused(until: UInt64)
    }

    private var phase = Phase.idle
    /// Up to when it is proven that nothing the node had to say is missing.
    private var provenAt: UInt64 = 0
    private var probedAt: UInt64 = 0
    private var armedAt: UInt64 = 0
    private var wantedAt: UInt64 = 0
    private var failures = 0
    /// Why the node does not track, as told last; nil when it does or has not been asked.
    public private(set) var refusal: String?

    public init() {}

    /// The number that values carry now; nil while nothing is tracked.
    public var source: UInt32? {
        if case .tracking(let source) = phase { source } else { nil }
    }

    /// What to do, in this order.
    /// - Parameters:
    ///   - nextSource: called when a connection begins to track: a number never used before in this process, and not 0.
    ///   - random: any number; it spreads the attempts of many agents.
    public mutating func handle(
        _ event: Event, now: UInt64, random: UInt64, nextSource: () -> UInt32
    ) -> [Action] {
        switch event {
        case .wanted:
            wantedAt = now
            return connectIfDue(now)
        case .armed:
            guard case .connecting = phase else { return [] }
            let source = nextSource()
            phase = .tracking(source: source)
            // Nothing came over it before, so there is nothing that could be missing.
            (provenAt, probedAt, armedAt) = (now, now, now)
            refusal = nil
            return [.serve(source: source)]
        case .refused(let reason): return refuse(reason, now)
        case .answered(let sentAt):
            provenAt = max(provenAt, sentAt)
            return []
        case .emptied: return source.map { [.flush(source: $0, .emptied)] } ?? []
        case .lost: return end(.lost, now, random, closes: false)
        case .unneeded:
            // That it was refused is remembered.
            if case .refused = phase { return [] }
            let actions = end(.unneeded, now, random, closes: true)
            phase = .idle
            return actions
        case .tick: return tick(now, random)
        }
    }

    private mutating func tick(_ now: UInt64, _ random: UInt64) -> [Action] {
        switch phase {
        case .idle: return []
        case .connecting(let since):
            guard now >= saturatingSum(since, HotKeyMitigationLimits.trackingConnectNanosecondsMax) else { return [] }
            return end(.lost, now, random, closes: true)
        case .waiting, .refused:
            // Without anyone who wants it, it would be kept up for nobody.
            guard now < saturatingSum(wantedAt, HotKeyMitigationLimits.trackingRetryNanoseconds) else { return [] }
            return connectIfDue(now)
        case .tracking:
            if now > saturatingSum(provenAt, HotKeyMitigationLimits.trackingSilenceNanosecondsMax) {
                return end(.silent, now, random, closes: true)
            }
            if now >= saturatingSum(wantedAt, HotKeyMitigationLimits.trackingIdleNanoseconds) {
                let actions = end(.unneeded, now, random, closes: true)
                phase = .idle
                return actions
            }
            guard now >= saturatingSum(probedAt, HotKeyMitigationLimits.trackingProbeNanoseconds) else { return [] }
            probedAt = now
            return [.probe]
        }
    }

    private mutating func connectIfDue(_ now: UInt64) -> [Action] {
        switch phase {
        case .connecting, .tracking: return []
        case .waiting(let until), .refused(let until): if now < until { return [] }
        case .idle: break
        }
        phase = .connecting(since: now)
        return [.connect]
    }

    private mutating func refuse(_ reason: String, _ now: UInt64) -> [Action] {
        var actions: [Action] = []
        switch phase {
        case .connecting: break
        case .tracking(let source): actions.append(.flush(source: source, .lost))
        case .idle, .waiting, .refused: return []
        }
        phase = .refused(until: saturatingSum(now, HotKeyMitigationLimits.trackingRefusedNanoseconds))
        actions.append(.close)
        if refusal != reason {
            refusal = reason
            actions.append(.tell(refusal: reason))
        }
        return actions
    }

    /// - Parameter closes: whether the connection may still be there.
    private mutating func end(
        _ cause: TrackingFlush, _ now: UInt64, _ random: UInt64, closes: Bool
    ) -> [Action] {
        var actions: [Action] = []
        switch phase {
        case .connecting: break
        case .tracking(let source):
            actions.append(.flush(source: source, cause))
            if now >= saturatingSum(armedAt, HotKeyMitigationLimits.trackingSilenceNanosecondsMax) { failures = 0 }
        case .idle, .waiting, .refused: return []
        }
        if closes { actions.append(.close) }
        let doubled = HotKeyMitigationLimits.trackingPauseNanoseconds << UInt64(min(failures, 16))
        let pause = min(doubled, HotKeyMitigationLimits.trackingPauseNanosecondsMax)
        failures += 1
        phase = .waiting(until: saturatingSum(now, pause / 2 + random % (pause / 2 + 1)))
        return actions
    }
}

/// Why what came over a tracking connection was flushed.
public enum TrackingFlush: String, Sendable, CaseIterable {
    /// The connection ended.
    case lost
    /// The node did not answer on it for too long.
    case silent
    /// The node said that its whole data set changed.
    case emptied
    /// Nobody needed the connection any more.
    case unneeded
}
