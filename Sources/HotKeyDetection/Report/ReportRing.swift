/// The frames an agent made lately, for whoever pulls them.
public struct ReportRing: Sendable {
    public struct Frame: Sendable, Hashable {
        public let sequence: UInt64
        public let bytes: [UInt8]
    }

    /// Tells one run of the agent from the next: sequence numbers start over with it.
    public let epoch: UInt64
    private let framesMax: Int
    private var frames: [Frame] = []
    /// Position of the oldest frame once the ring is full.
    private var oldest = 0

    /// - Parameters:
    ///   - epoch: drawn anew at each start of the agent.
    ///   - retentionMilliseconds: how long frames are kept, in slices of the usual length.
    public init(epoch: UInt64, retentionMilliseconds: Int = DetectionLimits.reportRetentionMilliseconds) {
        self.epoch = epoch
        framesMax = max(1, retentionMilliseconds / DetectionLimits.sliceMilliseconds)
    }

    /// 0 before the first frame.
    public var lastSequence: UInt64 {
        guard !frames.isEmpty else { return 0 }
        return frames[(oldest + frames.count - 1) % frames.count].sequence
    }

    public mutating func append(_ bytes: [UInt8], sequence: UInt64) {
        precondition(sequence > lastSequence, "frames come in the order of their sequence numbers")
        let frame = Frame(sequence: sequence, bytes: bytes)
        if frames.count < framesMax {
            frames.append(frame)
        } else {
            frames[oldest] = frame
            oldest = (oldest + 1) % framesMax
        }
    }

    /// The kept frames with a higher sequence number, oldest first, at most `framesMax` of them.
    ///
    /// A first frame that does not follow `after` directly means that what lay between is gone.
    public func frames(after: UInt64, framesMax: Int = .max) -> [Frame] {
        var found: [Frame] = []
        for step in 0..<frames.count where found.count < framesMax {
            let frame = frames[(oldest + step) % frames.count]
            if frame.sequence > after { found.append(frame) }
        }
        return found
    }
}
