/// When the keys of one pattern are hot.
public struct DetectionRule: Sendable, Hashable {
    public var pattern: GlobPattern
    /// Accesses a second, reads and writes together, at which a key is hot.
    public var thresholdPerSecond: Int
    /// Part of its home node's measured capacity at which a key is hot, if that is less than `thresholdPerSecond`; 0 for none.
    public var thresholdShareOfNode: Double
    /// What the share comes to counts as no less than this.
    public var thresholdFloorPerSecond: Int
    /// Reply bytes a second at which a key is hot, and then of the kind `big`.
    public var thresholdBytesPerSecond: Int
    /// The span over which rates are taken.
    public var windowMilliseconds: Int
    /// A key enters when this many …
    public var confirmationSlices: Int
    /// … of this many last slices were at the threshold.
    public var confirmationOfSlices: Int
    /// One slice at this many times the threshold makes a key hot at once.
    public var instantMultiple: Double
    /// Below this part of the threshold a hot key cools.
    public var leaveRatio: Double
    /// How long it must stay below to leave.
    public var coolDownSeconds: Double
    /// How long a key stays hot at least.
    public var minimumHotSeconds: Double
    /// For how long after leaving a key may come back without confirmation.
    public var reentrySeconds: Double
    /// Writes above this part of the reads make a hot key write-hot.
    public var writeHotRatio: Double
    /// Reads that find nothing, from this part of the reads on, make a hot key missing-hot.
    public var missingHotRatio: Double

    public init(
        pattern: GlobPattern, thresholdPerSecond: Int = 1_000, thresholdBytesPerSecond: Int = 64 << 20,
        windowMilliseconds: Int = 1_000, confirmationSlices: Int = 2, confirmationOfSlices: Int = 3,
        instantMultiple: Double = 10, leaveRatio: Double = 0.4, coolDownSeconds: Double = 15,
        minimumHotSeconds: Double = 30, reentrySeconds: Double = 60, writeHotRatio: Double = 0.1,
        missingHotRatio: Double = 0.8, thresholdShareOfNode: Double = 0, thresholdFloorPerSecond: Int = 100
    ) {
        self.pattern = pattern
        self.thresholdPerSecond = thresholdPerSecond
        self.thresholdBytesPerSecond = thresholdBytesPerSecond
        self.windowMilliseconds = windowMilliseconds
        self.confirmationSlices = confirmationSlices
        self.confirmationOfSlices = confirmationOfSlices
        self.instantMultiple = instantMultiple
        self.leaveRatio = leaveRatio
        self.coolDownSeconds = coolDownSeconds
        self.minimumHotSeconds = minimumHotSeconds
        self.reentrySeconds = reentrySeconds
        self.writeHotRatio = writeHotRatio
        self.missingHotRatio = missingHotRatio
        self.thresholdShareOfNode = thresholdShareOfNode
        self.thresholdFloorPerSecond = thresholdFloorPerSecond
    }

    /// Throws `invalidRule` naming the field, what it is and what was expected.
    public func validate() throws {
        let window = DetectionLimits.windowMillisecondsRange
        let slice = DetectionLimits.sliceMilliseconds
        try check("thresholdPerSecond", thresholdPerSecond, in: 1...1_000_000_000)
        try check("thresholdShareOfNode", thresholdShareOfNode, in: 0...1)
        try check("thresholdFloorPerSecond", thresholdFloorPerSecond, in: 1...1_000_000_000)
        guard thresholdShareOfNode == 0 || thresholdFloorPerSecond <= thresholdPerSecond else {
            throw invalid(
                "thresholdFloorPerSecond", thresholdFloorPerSecond, "at most thresholdPerSecond, \(thresholdPerSecond)")
        }
        try check("thresholdBytesPerSecond", thresholdBytesPerSecond, in: 1...1_000_000_000_000)
        try check("windowMilliseconds", windowMilliseconds, in: window)
        guard windowMilliseconds % slice == 0 else {
            throw invalid("windowMilliseconds", windowMilliseconds, "a multiple of \(slice)")
        }
        try check("confirmationOfSlices", confirmationOfSlices, in: 1...windowMilliseconds / slice)
        try check("confirmationSlices", confirmationSlices, in: 1...confirmationOfSlices)
        try check("instantMultiple", instantMultiple, in: 1...1_000_000)
        try check("leaveRatio", leaveRatio, in: 0...0.95)
        try check("coolDownSeconds", coolDownSeconds, in: 0...86_400)
        try check("minimumHotSeconds", minimumHotSeconds, in: 0...86_400)
        try check("reentrySeconds", reentrySeconds, in: 0...86_400)
        try check("writeHotRatio", writeHotRatio, in: 0...1_000)
        try check("missingHotRatio", missingHotRatio, in: DetectionLimits.missingHotRatioRange)
    }

    private func check<Value: Comparable>(_ field: String, _ value: Value, in range: ClosedRange<Value>) throws {
        guard range.contains(value) else {
            throw invalid(field, value, "\(range.lowerBound) to \(range.upperBound)")
        }
    }

    private func invalid<Value>(_ field: String, _ value: Value, _ expected: String) -> DetectionError {
        DetectionError(.invalidRule, "rule \"\(pattern.source)\", \(field): expected \(expected), found \(value)")
    }
}
