/// What the coordinator remembers about one agent's frames: which it has seen, and to which of its own slices they belong.
///
/// The agents' clocks are not asked. A frame's sequence number and the durations of the frames up to it give its place on the
/// agent's own scale of slices (``SliceScale``), and `position + offset` is the coordinator's slice it is counted in, with the
/// offset taken from arrivals: the newest frame of a pull belongs to the running slice when it came as fast as the fastest do.
/// Frames that arrive late or in a bunch thus fall into the slices they were made in, instead of piling up in the slice they
/// happened to arrive in.
///
/// One owner: the window that the frames are merged into.
final class AgentLedger {
    enum Placement: Equatable {
        case slice(UInt64)
        case repeated
        /// Too old to be counted.
        case expired
    }

    /// What is remembered of one frame.
    private struct Frame {
        var sequence: UInt64 = 0
        var position: UInt64 = 0
        /// Slices that it takes on the scale.
        var taken: UInt64 = 1
        /// The slice it was counted in; 0 while it was not.
        var slice: UInt64 = 0
        /// The first slice that it tells of.
        var startSlice: UInt64 = 0
        var bound: UInt64 = 0
        var accessesPerSlice: UInt64 = 0
    }

    /// Pulls after which the smallest delay seen becomes the offset: follows an agent whose clock runs slower.
    private static let offsetReviewPulls = 32
    private static let remembered: UInt64 = 64

    let epoch: UInt64
    let previousEpoch: UInt64?
    private(set) var lastSequence: UInt64 = 0
    private(set) var scale = SliceScale()
    /// Bit n: the frame n before the last one has been seen.
    private var seen: UInt64 = 0
    /// Added to a position, wrapping, gives a slice.
    private var offset: UInt64 = 0
    private var leastDelay = UInt64.max
    private var pulls = 0
    private var frames = [Frame](repeating: Frame(), count: Int(AgentLedger.remembered))
    private(set) var lastArrivalNanoseconds: UInt64
    /// Accesses of its newest frame, for each slice that the frame takes.
    private(set) var accessesPerSlice: UInt64 = 0
    /// Accesses that it may have in a slice of which it has not told, as far as its frames of the last second say.
    ///
    /// One at least: an agent that had none lately tells as late as any other, and what it had before is in its window as long.
    private(set) var expectedPerSlice: UInt64 = 0
    /// The newest slice that it has told of; 0 before the first.
    var toldSlice: UInt64 = 0

    init(epoch: UInt64, previousEpoch: UInt64?, now: UInt64) {
        self.epoch = epoch
        self.previousEpoch = previousEpoch
        lastArrivalNanoseconds = now
    }

    /// Before a pull's frames are placed.
    /// - Parameter scale: as it will be when all of them are.
    func arrive(_ scale: SliceScale, slice: UInt64, now: UInt64) {
        lastArrivalNanoseconds = now
        // A pull that brings nothing new says nothing about delays.
        guard scale.lastSequence > lastSequence else { return }
        let target = scale.position &+ offset
        let isAhead = target > slice
        if lastSequence == 0 || isAhead || target + UInt64(DetectionLimits.lateSlices) < slice {
            offset = slice &- scale.position
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
    func place(_ sequence: UInt64, durationMilliseconds: UInt32, isOpen: (UInt64) -> Bool) -> Placement {
        if sequence > lastSequence {
            let step = sequence - lastSequence
            seen = step < Self.remembered ? seen << step | 1 : 1
            let before = scale
            scale.advance(to: sequence, durationMilliseconds: durationMilliseconds)
            if lastSequence > 0 {
                // Those that have not come took a slice each, as far as anybody knows.
                for gap in 1..<min(step, Self.remembered) {
                    let missed = sequence - gap
                    frames[Int(missed % Self.remembered)] = Frame(
                        sequence: missed, position: before.position &+ (missed - lastSequence))
                }
            }
            frames[Int(sequence % Self.remembered)] = Frame(
                sequence: sequence, position: scale.position, taken: scale.lastTaken)
            lastSequence = sequence
        } else {
            let back = lastSequence - sequence
            guard back < Self.remembered else { return .expired }
            guard seen & (1 << back) == 0 else { return .repeated }
            seen |= 1 << back
            if frames[Int(sequence % Self.remembered)].sequence != sequence {
                // From before the first one that came.
                frames[Int(sequence % Self.remembered)] = Frame(
                    sequence: sequence, position: scale.position &- back)
            }
        }
        let slice = slice(of: sequence)
        return isOpen(slice) ? .slice(slice) : .expired
    }

    /// How many of the slices up to its own a frame that was placed takes; none where it shares that with the one before.
    func slicesTaken(_ sequence: UInt64) -> UInt64 { frames[Int(sequence % Self.remembered)].taken }

    /// Notes a frame that is counted.
    /// - Parameter accessesPerSlice: its accesses, for each slice that it takes.
    func setCounted(
        _ sequence: UInt64, slice: UInt64, startSlice: UInt64, bound: UInt64, accessesPerSlice: UInt64
    ) {
        let place = Int(sequence % Self.remembered)
        frames[place].slice = slice
        frames[place].startSlice = startSlice
        frames[place].bound = bound
        frames[place].accessesPerSlice = accessesPerSlice
        if sequence == lastSequence { self.accessesPerSlice = accessesPerSlice }
        toldSlice = max(toldSlice, slice)
    }

    /// After a pull's frames are counted.
    func reviewExpected() {
        expectedPerSlice = 1
        for back in 0..<UInt64(DetectionLimits.tailSlices) where back < lastSequence {
            let sequence = lastSequence - back
            let frame = frames[Int(sequence % Self.remembered)]
            guard frame.sequence == sequence, frame.slice &+ UInt64(DetectionLimits.tailSlices) > toldSlice else {
                continue
            }
            expectedPerSlice = max(expectedPerSlice, frame.accessesPerSlice)
        }
    }

    /// Of a frame that was counted: in which slice, from which slice on it tells, and its bound.
    func counted(_ sequence: UInt64) -> (slice: UInt64, startSlice: UInt64, bound: UInt64)? {
        let frame = frames[Int(sequence % Self.remembered)]
        guard frame.sequence == sequence, frame.slice > 0 else { return nil }
        return (frame.slice, frame.startSlice, frame.bound)
    }

    /// The slice of a sequence number up to the last one that was placed.
    func slice(of sequence: UInt64) -> UInt64 {
        let frame = frames[Int(sequence % Self.remembered)]
        let position = frame.sequence == sequence ? frame.position : scale.position &- (lastSequence - sequence)
        return position &+ offset
    }
}

/// An agent's frames on a scale of slices of the usual length, by their durations.
///
/// A frame of about a slice's length takes one slice, a longer one as many as it lasted, a very short one none: after a stall an
/// agent makes one long frame, or that and some short ones. What rounding leaves is carried on until it comes to a whole slice, so
/// that the scale never runs away from the agent's time by more than a slice, and scatter of some milliseconds moves nothing.
struct SliceScale: Hashable {
    private(set) var lastSequence: UInt64 = 0
    /// The slice that the last frame ends with.
    private(set) var position: UInt64 = 0
    /// Slices that the last frame takes.
    private(set) var lastTaken: UInt64 = 1
    /// What the frames lasted beyond the slices that they took.
    private var restMilliseconds: Int64 = 0

    /// A gap in the numbers takes a slice for each; frames from before the last one change nothing.
    mutating func advance(to sequence: UInt64, durationMilliseconds: UInt32) {
        guard sequence > lastSequence else { return }
        position &+= lastSequence == 0 ? 0 : sequence - lastSequence - 1
        lastSequence = sequence
        let slice = Int64(DetectionLimits.sliceMilliseconds)
        let duration = Int64(durationMilliseconds)
        var slices = (duration + slice / 2) / slice
        restMilliseconds += duration - slices * slice
        if restMilliseconds >= slice {
            slices += 1
            restMilliseconds -= slice
        } else if restMilliseconds <= -slice {
            // Rounded up before, so there is one to give back.
            slices -= 1
            restMilliseconds += slice
        }
        lastTaken = UInt64(max(0, slices))
        position &+= lastTaken
    }
}
