/// How many copies a key gets from its heat: so many that none of the places (home and copies) answers more reads than a place may.
/// Pure; one a key.
///
/// A change costs the key its copies for a while (every agent stays away from them until older fills are gone), so the number
/// follows only what lasts:
/// - It grows when every place would have a quarter more than its part, and no sooner than
///   `HotKeyMitigationLimits.copyNumberRestNanoseconds` after the last change.
/// - It shrinks when one and a half times the reads would do with fewer, for `HotKeyMitigationLimits.copyNumberHoldNanoseconds` on end;
///   to the most that was needed in that time.
///
/// So a rate must change by a factor of 1.875 before a change is taken back.
public struct CopyNumber: Sendable, Hashable {
    /// The number in force; nil before the first look.
    public private(set) var copies: Int?
    private var changedAt: UInt64?
    /// Since when fewer would do, and the most of what would have.
    private var fewer: (since: UInt64, most: Int)?

    /// - Parameter copies: what is in force already, as another coordinator has published it.
    public init(copies: Int? = nil) {
        self.copies = copies
    }

    public static func == (left: CopyNumber, right: CopyNumber) -> Bool {
        left.copies == right.copies && left.changedAt == right.changedAt && left.fewer?.since == right.fewer?.since
            && left.fewer?.most == right.fewer?.most
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(copies)
        hasher.combine(changedAt)
    }

    /// The number from now on.
    /// - Parameters:
    ///   - readsPerSecond: of the key, over all agents.
    ///   - placeReadsPerSecond: what one place may have of them.
    ///   - copiesMax: how many there may be: one less than there are nodes, at most what the operator allows.
    public mutating func observe(
        readsPerSecond: Double, placeReadsPerSecond: Double, copiesMax: Int, now: UInt64
    ) -> Int {
        let most = max(0, min(copiesMax, HotKeyMitigationLimits.copiesMax))
        let needed = Self.needed(readsPerSecond, placeReadsPerSecond, most)
        guard let current = copies, current <= most else { return set(needed, now) }
        if current == 0 { return needed == 0 ? 0 : set(needed, now) }
        let isCrowded = readsPerSecond > placeReadsPerSecond * Double(current + 1) * Self.growMargin
        if isCrowded, needed > current {
            fewer = nil
            guard changedAt.map({ now &- $0 >= HotKeyMitigationLimits.copyNumberRestNanoseconds }) ?? true else {
                return current
            }
            return set(needed, now)
        }
        let withRoom = Self.needed(readsPerSecond * Self.shrinkMargin, placeReadsPerSecond, most)
        guard withRoom < current else {
            fewer = nil
            return current
        }
        let seen = (since: fewer?.since ?? now, most: max(fewer?.most ?? 0, withRoom))
        fewer = seen
        return now &- seen.since >= HotKeyMitigationLimits.copyNumberHoldNanoseconds ? set(seen.most, now) : current
    }

    private mutating func set(_ number: Int, _ now: UInt64) -> Int {
        copies = number
        changedAt = now
        fewer = nil
        return number
    }

    private static let growMargin = 1.25
    private static let shrinkMargin = 1.5

    /// One copy at least: a key is hot because one node is not to carry it alone.
    private static func needed(_ reads: Double, _ placeReads: Double, _ most: Int) -> Int {
        guard most > 0 else { return 0 }
        guard placeReads > 0, reads.isFinite else { return most }
        let places = (reads / placeReads).rounded(.up)
        return places >= Double(most + 1) ? most : max(1, Int(places) - 1)
    }
}
