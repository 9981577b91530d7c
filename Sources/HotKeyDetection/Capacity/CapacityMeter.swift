/// What a cache node says of itself at one moment, counted since its start.
public struct NodeReading: Sendable, Hashable {
    /// Another one means that the node was started anew.
    public var runID: String
    public var commandsProcessed: UInt64
    /// Processor time of the thread that carries commands out.
    public var busySeconds: Double
    /// When it said so, by the caller's monotonic clock.
    public var nanoseconds: UInt64

    public init(runID: String, commandsProcessed: UInt64, busySeconds: Double, nanoseconds: UInt64) {
        self.runID = runID
        self.commandsProcessed = commandsProcessed
        self.busySeconds = busySeconds
        self.nanoseconds = nanoseconds
    }
}

/// How many commands a second one cache node could carry out, from readings taken every few seconds.
///
/// A node carries commands out on one thread. What it did between two readings over the processor time which that thread took for it
/// is what it would do in a second of full load: commands ÷ busy seconds. So it need not be saturated to be measured, only busy
/// enough that its housekeeping does not count: pairs of readings in which the thread was busy for less than
/// `capacityBusyShareMin` say nothing, and what was found before holds. The median of the last
/// `capacityReadingsMax` pairs is taken, so that a slow script or a fork in one of them does not count, to two digits, so that
/// thresholds stand still while the traffic does.
///
/// **What it cannot tell.** It is the capacity for the commands that the node has now: heavier ones make it less. At low load, where each command
/// costs a system call of its own, it comes out too low, since busy nodes take many in one go. Processor time that other virtual machines
/// take, and a network that is full before the thread is, are not in it: then it comes out too high.
public struct CapacityMeter: Sendable {
    private var last: NodeReading?
    private var samples: [Double] = []

    public init() {}

    /// Commands a second; nil while the node was not busy enough to tell.
    public private(set) var commandsPerSecond: Double?

    public mutating func add(_ reading: NodeReading) {
        defer { last = reading }
        guard let before = last, before.runID == reading.runID, reading.commandsProcessed >= before.commandsProcessed
        else {
            // Another process, perhaps on another machine.
            samples.removeAll()
            commandsPerSecond = nil
            return
        }
        guard reading.nanoseconds > before.nanoseconds else { return }
        let seconds = Double(reading.nanoseconds - before.nanoseconds) / 1e9
        let busy = reading.busySeconds - before.busySeconds
        let commands = Double(reading.commandsProcessed - before.commandsProcessed)
        guard busy >= seconds * DetectionLimits.capacityBusyShareMin,
            commands >= Double(DetectionLimits.capacityCommandsMin)
        else { return }
        samples.append(commands / busy)
        if samples.count > DetectionLimits.capacityReadingsMax { samples.removeFirst() }
        let sorted = samples.sorted()
        commandsPerSecond = Self.rounded(sorted[(sorted.count - 1) / 2])
    }

    /// To two digits.
    private static func rounded(_ value: Double) -> Double {
        var unit = 1.0
        while value / unit >= 100 { unit *= 10 }
        return (value / unit).rounded() * unit
    }
}
