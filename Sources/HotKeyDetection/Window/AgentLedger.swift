/// What the coordinator remembers about one agent's frames: which it has seen, and to which of its own slices they belong.
///
/// The agents' clocks are not asked. A frame's sequence number counts slices, and `sequence + offset` is the
/// coordinator's slice it is counted in, with the offset taken from arrivals: the newest frame of a pull belongs to the
/// running slice when it came as fast as the fastest do. Frames that arrive late or in a bunch thus fall into the slices
/// they were made in, one frame a slice, instead of piling up in the slice they happened to arrive in.
struct AgentLedger {
    enum Placement: Equatable {
        case slice(UInt64)
        case repeated
        /// Too old to be counted.
        case expired
    }

    /// Pulls after which the smallest delay seen becomes the offset: follows an agent whose clock runs slower.
    private static let offsetReviewPulls = 32
    private static let remembered: UInt64 = 64

    let epoch: UInt64
    private(set) var previousEpoch: UInt64?
    private(set) var lastSequence: UInt64 = 0
    /// Bit n: the frame n before the last one has been seen.
    private var seen: UInt64 = 0
    /// Added to a sequence number, wrapping, gives a slice.
    private var offset: UInt64 = 0
    private var leastDelay = UInt64.max
    private var pulls = 0
    private var boundsByPlace = [UInt64](repeating: 0, count: Int(AgentLedger.remembered))
    private(set) var lastArrivalNanoseconds: UInt64
    var lastAccesses: UInt64 = 0

    init(epoch: UInt64, previousEpoch: UInt64?, now: UInt64) {
        self.epoch = epoch
        self.previousEpoch = previousEpoch
        lastArrivalNanoseconds = now
    }

    /// Before a pull's frames are placed.
    mutating func arrive(newest: UInt64, slice: UInt64, now: UInt64) {
        lastArrivalNanoseconds = now
        // A pull that brings nothing new says nothing about delays.
        guard newest > lastSequence else { return }
        let target = newest &+ offset
        let isAhead = target > slice
        if lastSequence == 0 || isAhead || target + UInt64(DetectionLimits.lateSlices) < slice {
            offset = slice &- newest
            leastDelay = .max
            pulls = 0
            return
        }
        leastDelay = min(leastDelay, slice - target)
        pulls += 1
        if pulls == Self.offsetReviewPulls {
            offset = offset &+ leastDelay
            leastDelay = .max
            pulls = 0
        }
    }

    /// Where a frame belongs; marks it as seen.
    mutating func place(_ sequence: UInt64, isOpen: (UInt64) -> Bool) -> Placement {
        if sequence > lastSequence {
            let step = sequence - lastSequence
            seen = step < Self.remembered ? seen << step | 1 : 1
            for gap in 0..<min(step, Self.remembered) {
                boundsByPlace[Int((sequence - gap) % Self.remembered)] = 0
            }
            lastSequence = sequence
        } else {
            let back = lastSequence - sequence
            guard back < Self.remembered else { return .expired }
            guard seen & (1 << back) == 0 else { return .repeated }
            seen |= 1 << back
        }
        let slice = sequence &+ offset
        return isOpen(slice) ? .slice(slice) : .expired
    }

    mutating func setBound(_ bound: UInt64, sequence: UInt64) {
        boundsByPlace[Int(sequence % Self.remembered)] = bound
    }

    /// The sum of the bounds of the frames that an entry covers; those not seen count nothing.
    func bounds(through sequence: UInt64, span: UInt32) -> UInt64 {
        var sum: UInt64 = 0
        for back in 0..<min(UInt64(span), sequence) {
            sum &+= boundsByPlace[Int((sequence - back) % Self.remembered)]
        }
        return sum
    }

    /// The slice of a sequence number between frames that were placed.
    func slice(of sequence: UInt64) -> UInt64 { sequence &+ offset }
}
