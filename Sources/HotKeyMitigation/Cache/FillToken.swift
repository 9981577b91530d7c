/// One fill under way: from the look-up that asked for it to its end. Opaque; no two fills of a cache share one.
///
/// It is also the key by which a caller finds the requests that wait for the same reply.
public struct FillToken: Hashable, Sendable {
    @usableFromInline let entry: Int32
    /// Never used twice in one cache, so a token of an entry that was dropped fits no later one.
    @usableFromInline let serial: UInt64

    init(entry: Int32, serial: UInt64) {
        self.entry = entry
        self.serial = serial
    }
}
