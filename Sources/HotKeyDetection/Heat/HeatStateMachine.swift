/// The states a key passes through. Only hot, cooling, and the return to cold are published.
public enum HeatState: String, Sendable, Hashable, CaseIterable {
    case cold, candidate, hot, cooling
}

/// What makes a hot key a burden, and so what may be done about it.
public enum HeatKind: String, Sendable, Hashable, CaseIterable {
    /// Mostly read: may be cached and copied.
    case read
    /// Written too often to be cached or copied.
    case write
    /// Over the threshold in reply bytes.
    case big
    /// Most reads find nothing: there is no value to copy.
    case missing
}

/// What a slice's sample did to a key.
public enum HeatAction: Sendable, Hashable {
    case none
    case becameCandidate
    /// Entered, or came back from cooling.
    case becameHot(HeatKind)
    case kindChanged(HeatKind)
    case beganCooling
    case becameCold
}

/// One key's way through cold → candidate → hot → cooling → cold. Pure: a sample and the time in, an action out.
///
/// - **Enters** at once on an instant slice; otherwise when `confirmationSlices` of the last `confirmationOfSlices`
///   slices are over and either the window's rate is at the threshold or there is short evidence. A key that left less
///   than `reentrySeconds` ago enters without confirmation: the window at the threshold or one clear slice suffices.
/// - **Cools** when the window's rate has been under `leaveRatio` for a third of the cool-down (so that a dip is not
///   published), and turns hot again only at the full threshold (so that a rate around the leave level is not either).
///   A rate between the two levels keeps the key as it is.
/// - **Leaves** when it was under `leaveRatio` for `coolDownSeconds` without a break and hot for `minimumHotSeconds`.
/// - **Kind**: write as soon as writes pass `writeHotRatio` of the reads (caching such a key is what must not happen),
///   big as soon as the bytes are over their threshold; the way back waits until the kind's level was undercut by half
///   for a cool-down. A read-hot key becomes missing when `missingHotRatio` of its reads have found nothing for a third of
///   the cool-down without a break, so that a key which expires and is filled again is not published twice each time; the
///   way back is as long, counted from where half of that ratio is undercut.
public struct HeatStateMachine: Sendable, Hashable {
    private struct Hot: Sendable, Hashable {
        var kind: HeatKind
        var since: UInt64
        var isCooling = false
        /// Since when without a break the rate is under the leave level.
        var underSince: UInt64?
        /// Since when without a break the kind's own level is undercut by half, or of a read-hot key, most reads have missed.
        var kindUnderSince: UInt64?
    }

    private enum Phase: Sendable, Hashable {
        case cold(leftAt: UInt64?)
        case candidate(leftAt: UInt64?)
        case hot(Hot)
    }

    private var phase: Phase = .cold(leftAt: nil)

    public init() {}

    /// A key that another coordinator has published as hot or cooling.
    public init(adopting kind: HeatKind, isCooling: Bool, sinceNanoseconds: UInt64) {
        phase = .hot(Hot(kind: kind, since: sinceNanoseconds, isCooling: isCooling))
    }

    public var state: HeatState {
        switch phase {
        case .cold: .cold
        case .candidate: .candidate
        case .hot(let hot): hot.isCooling ? .cooling : .hot
        }
    }

    /// Of a hot or cooling key.
    public var kind: HeatKind? {
        guard case .hot(let hot) = phase else { return nil }
        return hot.kind
    }

    /// When a hot or cooling key entered.
    public var sinceNanoseconds: UInt64? {
        guard case .hot(let hot) = phase else { return nil }
        return hot.since
    }

    /// Whether nothing would be lost by forgetting this key.
    public func isForgettable(rule: DetectionRule?, now: UInt64) -> Bool {
        guard case .cold(let leftAt) = phase else { return false }
        return !Self.isRecent(leftAt, rule: rule, now: now)
    }

    /// Ends a key's heat whatever its rate: no rule covers it, or hotter keys need the room.
    public mutating func leave(now: UInt64) {
        phase = .cold(leftAt: now)
    }

    /// - Parameter mayCool: false while missing reports could be why the rate looks low; no time under the leave level
    ///   counts then.
    public mutating func observe(
        _ sample: HeatSample, rule: DetectionRule, now: UInt64, mayCool: Bool = true
    ) -> HeatAction {
        switch phase {
        case .cold(let leftAt):
            return observeOutside(sample, rule: rule, now: now, leftAt: leftAt, wasCandidate: false)
        case .candidate(let leftAt):
            return observeOutside(sample, rule: rule, now: now, leftAt: leftAt, wasCandidate: true)
        case .hot(var hot):
            let action = Self.observeHot(&hot, sample, rule: rule, now: now, mayCool: mayCool)
            phase = action == .becameCold ? .cold(leftAt: now) : .hot(hot)
            return action
        }
    }

    /// Whether a key that is not hot would enter by this sample.
    func wouldEnter(_ sample: HeatSample, rule: DetectionRule, now: UInt64) -> Bool {
        switch phase {
        case .cold(let leftAt), .candidate(let leftAt):
            Self.enters(sample, rule: rule, now: now, leftAt: leftAt)
        case .hot: false
        }
    }

    private static func enters(_ sample: HeatSample, rule: DetectionRule, now: UInt64, leftAt: UInt64?) -> Bool {
        let isConfirmed =
            sample.overSlices >= rule.confirmationSlices && (sample.windowHeat >= 1 || sample.hasShortEvidence)
        let isBack =
            isRecent(leftAt, rule: rule, now: now) && (sample.windowHeat >= 1 || sample.hasSingleSliceEvidence)
        return sample.isInstant || isConfirmed || isBack
    }

    private mutating func observeOutside(
        _ sample: HeatSample, rule: DetectionRule, now: UInt64, leftAt: UInt64?, wasCandidate: Bool
    ) -> HeatAction {
        if Self.enters(sample, rule: rule, now: now, leftAt: leftAt) {
            let kind = Self.kind(of: sample, rule: rule)
            phase = .hot(Hot(kind: kind, since: now))
            return .becameHot(kind)
        }
        if sample.overSlices > 0 {
            phase = .candidate(leftAt: leftAt)
            return wasCandidate ? .none : .becameCandidate
        }
        phase = .cold(leftAt: leftAt)
        return .none
    }

    private static func observeHot(
        _ hot: inout Hot, _ sample: HeatSample, rule: DetectionRule, now: UInt64, mayCool: Bool
    ) -> HeatAction {
        if sample.windowHeat < rule.leaveRatio, mayCool {
            let underSince = hot.underSince ?? now
            hot.underSince = underSince
            let under = seconds(from: underSince, to: now)
            if under >= rule.coolDownSeconds, seconds(from: hot.since, to: now) >= rule.minimumHotSeconds {
                return .becameCold
            }
            if !hot.isCooling, under >= rule.coolDownSeconds * DetectionLimits.coolingDelayShare {
                hot.isCooling = true
                return .beganCooling
            }
            return .none
        }
        hot.underSince = nil
        if hot.isCooling, sample.windowHeat >= 1 {
            hot.isCooling = false
            hot.kind = kind(of: sample, rule: rule)
            hot.kindUnderSince = nil
            return .becameHot(hot.kind)
        }
        return observeKind(&hot, sample, rule: rule, now: now)
    }

    private static func observeKind(
        _ hot: inout Hot, _ sample: HeatSample, rule: DetectionRule, now: UInt64
    ) -> HeatAction {
        // A few accesses say nothing about a key's kind.
        guard sample.windowHeat >= rule.leaveRatio else { return .none }
        let current = kind(of: sample, rule: rule)
        if current == hot.kind {
            hot.kindUnderSince = nil
            return .none
        }
        if current != .write, hot.kind != .read || current == .missing {
            guard isUndercut(hot.kind, by: sample, rule: rule) else {
                hot.kindUnderSince = nil
                return .none
            }
            let since = hot.kindUnderSince ?? now
            hot.kindUnderSince = since
            let isToOrFromMissing = hot.kind == .missing || hot.kind == .read
            let delay = rule.coolDownSeconds * (isToOrFromMissing ? DetectionLimits.missingDelayShare : 1)
            guard seconds(from: since, to: now) >= delay else { return .none }
        }
        hot.kind = current
        hot.kindUnderSince = nil
        return .kindChanged(current)
    }

    static func kind(of sample: HeatSample, rule: DetectionRule) -> HeatKind {
        // By chance alone a window of few accesses has several times the writes of the mean now and then, and of many keys one always.
        let windowSeconds = Double(rule.windowMilliseconds) / 1e3
        let expectedWrites = rule.writeHotRatio * sample.readsPerSecond * windowSeconds
        let chance = DetectionLimits.writeHotDeviations * expectedWrites.squareRoot()
        if sample.writesPerSecond * windowSeconds > expectedWrites + chance { return .write }
        if sample.missesPerSecond > 0, sample.missesPerSecond >= rule.missingHotRatio * sample.readsPerSecond {
            return .missing
        }
        // Before the window has filled, what brings the heat decides.
        return sample.bytesHeat >= 1 || sample.bytesHeat >= sample.windowHeat ? .big : .read
    }

    private static func isUndercut(_ kind: HeatKind, by sample: HeatSample, rule: DetectionRule) -> Bool {
        switch kind {
        case .read: true
        case .write:
            sample.writesPerSecond
                <= DetectionLimits.kindReturnRatio * rule.writeHotRatio * sample.readsPerSecond
        case .big: sample.bytesHeat < DetectionLimits.kindReturnRatio
        case .missing:
            sample.missesPerSecond < DetectionLimits.kindReturnRatio * rule.missingHotRatio * sample.readsPerSecond
        }
    }

    private static func isRecent(_ leftAt: UInt64?, rule: DetectionRule?, now: UInt64) -> Bool {
        guard let leftAt, let rule else { return false }
        return seconds(from: leftAt, to: now) < rule.reentrySeconds
    }

    /// Zero when the clock of an adopted key's start lies ahead.
    private static func seconds(from start: UInt64, to end: UInt64) -> Double {
        end > start ? Double(end - start) / 1e9 : 0
    }
}
