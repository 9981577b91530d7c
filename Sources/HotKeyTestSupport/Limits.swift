/// Every limit of the test support. They are generous: a test that waits for a condition should fail because the condition
/// never comes, not because the machine was busy.
public enum TestSupportLimits {
    /// How long ``eventually(_:timeout:pollEvery:fileID:line:_:)`` waits when the caller does not say.
    public static let eventuallyTimeout: Duration = .seconds(120)
    /// How often a condition is polled.
    public static let pollInterval: Duration = .milliseconds(5)
    /// How long a server may take until it answers.
    public static let serverReadyTimeout: Duration = .seconds(60)
    /// How long a process may take to obey SIGTERM before it gets SIGKILL.
    public static let stopGrace: Duration = .seconds(10)
    /// How long a command that a test runs to completion may take.
    public static let commandTimeout: Duration = .seconds(120)
    /// How long a client of a test waits for bytes.
    public static let socketTimeout: Duration = .seconds(30)
    /// How many Java servers (an ensemble counts as one) start at the same time.
    public static let heavyStartsAtOnce = 2
    /// How often a server is started again on another port because somebody took the first one.
    public static let portAttemptsMax = 8
    /// Kept of each output stream of a process; older bytes are dropped.
    public static let capturedOutputBytesMax = 4 << 20
    /// The longest answer to a four-letter word.
    public static let fourLetterAnswerBytesMax = 4 << 20
    /// The longest RESP bulk that the test client reads.
    public static let bulkBytesMax = 64 << 20
    /// The largest RESP aggregate that the test client reads.
    public static let aggregateCountMax = 1 << 20
    /// The deepest RESP nesting that the test client reads.
    public static let nestingMax = 32
    /// What a fault proxy holds for one direction of one connection before it stops reading.
    public static let proxyBufferedBytesMax = 1 << 20
    /// What it remembers of how a client began.
    public static let proxyRememberedBytesMax = 4 << 10
    /// Ports handed out lie below Linux's range for outgoing connections (32768 and up), so that no connection can take
    /// the port of a server that is stopped for a while.
    public static let ports = 15_000..<32_000
}
