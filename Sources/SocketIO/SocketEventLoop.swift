public import Dispatch
import Glibc
import NIOConcurrencyHelpers
public import NIOCore
import NIOPosix

/// What an event loop does once all that came in together has been handed over.
public protocol TurnObserver: AnyObject {
    /// Called on the event loop, at the end of a turn in which ``SocketEventLoop/requestEndOfTurn()`` was called, and of the one after
    /// a turn in which ``SocketEventLoop/requestTurn(withinNanoseconds:)`` was.
    func endOfTurn()
}

/// An event loop of SwiftNIO with sockets of its own: one thread, one `epoll`.
///
/// Futures, promises, timers and the handlers of a secured connection are SwiftNIO's. Plain sockets are not channels: what is read is
/// handed to their ``SocketHandler`` directly. A channel costs some 10,000 instructions for each read and write it passes through its
/// pipeline; for a proxy that is more than all it does with a request.
public final class SocketEventLoop: EventLoop {
    private struct Inbox {
        var tasks: [@Sendable () -> Void] = []
        /// Whether the thread has to be woken for a new task.
        var isAsleep = false
        var isClosed = false
        /// The thread is no more. What is handed over now runs where that is done, one after the other.
        var hasEnded = false
        var isRunningLate = false
        var lastTimer: TimerQueue.ID = 0
    }

    private let inbox = NIOLockedValueBox(Inbox())
    private let wakeUp: WakeUp
    private let end = DispatchGroup()
    /// Whose code the thread runs. A thread's number would not tell: it goes to another one when the thread has ended.
    private static let current = ThreadSpecificVariable<SocketEventLoop>()
    // Used by the thread of this event loop alone, every way to it asserts that; and when that has ended by one thread at a time
    // (``Inbox/isRunningLate``).
    nonisolated(unsafe) private let core: Core

    /// Everything that only the event loop's own thread touches.
    private final class Core {
        let epoll: Epoll
        /// By descriptor.
        var targets: [(any PollTarget)?] = []
        /// How often the descriptor was registered: an event for a socket that was closed in the same turn, and whose number has
        /// gone to another since, is told apart by it.
        var generations: [UInt32] = []
        var timers = TimerQueue()
        var tasks: [() -> Void] = []
        var wantsEndOfTurn = false
        /// In at most so many nanoseconds.
        var nextTurnWithin: UInt64?
        var isEnding = false
        var observer: (any TurnObserver)?
        var readBuffer = ByteBuffer()

        init() throws(IOError) { epoll = try Epoll() }
    }

    /// - Parameter name: of the thread, in ASCII; the first 15 characters count.
    init(name: String) throws(IOError) {
        core = try Core()
        wakeUp = try WakeUp()
        end.enter()
        do throws(IOError) {
            try start(name)
        } catch {
            end.leave()
            throw error
        }
    }

    private func start(_ name: String) throws(IOError) {
        let started = DispatchSemaphore(value: 0)
        try Self.startThread { [self] in
            Self.current.currentValue = self
            _ = LinuxCalls.nameThread(pthread_self(), String(name.prefix(15)))
            started.signal()
            run()
            end.leave()
        }
        started.wait()
    }

    private static func startThread(_ body: @escaping @Sendable () -> Void) throws(IOError) {
        final class Body: Sendable {
            let run: @Sendable () -> Void
            init(_ run: @escaping @Sendable () -> Void) { self.run = run }
        }
        let box = Unmanaged.passRetained(Body(body))
        var thread = pthread_t()
        let code = pthread_create(
            &thread, nil,
            { argument in
                // It is the box above, which nobody else has.
                Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, box.toOpaque())
        guard code == 0 else {
            box.release()
            throw IOError(errnoCode: code, reason: "pthread_create")
        }
        pthread_detach(thread)
    }

    // MARK: Tasks and timers

    public var inEventLoop: Bool { Self.current.currentValue === self }

    /// Runs a task on the event loop; on the calling thread when the event loop has ended, so that nobody waits for ever.
    public func execute(_ task: @escaping @Sendable () -> Void) {
        if inEventLoop {
            core.tasks.append(task)
            return
        }
        let (mustWake, mustRun) = inbox.withLockedValue { inbox in
            inbox.tasks.append(task)
            defer { inbox.isAsleep = false }
            guard inbox.hasEnded, !inbox.isRunningLate else { return (inbox.isAsleep, false) }
            inbox.isRunningLate = true
            return (false, true)
        }
        if mustWake { wakeUp.signal() }
        if mustRun { runLate() }
    }

    private func runLate() {
        let before = Self.current.currentValue
        Self.current.currentValue = self
        defer { Self.current.currentValue = before }
        while true {
            let given = inbox.withLockedValue { inbox in
                defer { inbox.tasks = [] }
                inbox.isRunningLate = !inbox.tasks.isEmpty
                return inbox.tasks
            }
            guard !given.isEmpty else { return }
            for task in given { task() }
            while !core.tasks.isEmpty { runOwnTasks() }
        }
    }

    public func scheduleTask<T>(
        deadline: NIODeadline, _ task: @escaping @Sendable () throws -> T
    ) -> Scheduled<T> {
        let promise = makePromise(of: T.self)
        let id = inbox.withLockedValue { inbox in
            inbox.lastTimer += 1
            return inbox.lastTimer
        }
        let time = deadline.uptimeNanoseconds
        onLoop { [self] in
            guard !core.isEnding else { return promise.fail(EventLoopError.shutdown) }
            core.timers.add(
                id, at: time,
                TimerQueue.Timer {
                    do {
                        promise.assumeIsolatedUnsafeUnchecked().succeed(try task())
                    } catch {
                        promise.fail(error)
                    }
                } abandon: {
                    promise.fail(EventLoopError.shutdown)
                })
        }
        return Scheduled(promise: promise) { [self] in
            onLoop { self.core.timers.cancel(id) }
        }
    }

    public func scheduleTask<T>(in delay: TimeAmount, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
        scheduleTask(deadline: .now() + delay, task)
    }

    private func onLoop(_ body: @escaping @Sendable () -> Void) {
        if inEventLoop { body() } else { execute(body) }
    }

    // MARK: Sockets, on the event loop

    /// Who is told of the ends of turns, one at a time; kept alive until `nil` is set or the event loop has ended.
    public func setObserver(_ observer: (any TurnObserver)?) {
        preconditionInEventLoop()
        precondition(observer == nil || core.observer == nil, "the first one would never be told again")
        core.observer = observer
    }

    @inline(__always)
    public func requestEndOfTurn() {
        assert(inEventLoop)
        core.wantsEndOfTurn = true
    }

    /// Has the event loop sleep no longer than this when the running turn is over, and the observer told of the end of the turn that
    /// follows, whether something has come in it or not. For that turn alone; of several requests the shortest counts.
    public func requestTurn(withinNanoseconds nanoseconds: UInt64) {
        assert(inEventLoop)
        core.nextTurnWithin = min(core.nextTurnWithin ?? .max, nanoseconds)
    }

    func register(_ target: any PollTarget, _ descriptor: CInt, _ events: Epoll.Events) throws(IOError) {
        assert(inEventLoop)
        // Nobody would tell it of the end any more.
        guard !core.isEnding else { throw IOError(errnoCode: ECANCELED, reason: "the event loop ends") }
        let index = Int(descriptor)
        if index >= core.targets.count {
            let more = index + 1 - core.targets.count
            core.targets.append(contentsOf: repeatElement(nil, count: more))
            core.generations.append(contentsOf: repeatElement(0, count: more))
        }
        core.generations[index] &+= 1
        try core.epoll.add(descriptor, events, data: data(descriptor))
        core.targets[index] = target
    }

    func change(_ descriptor: CInt, _ events: Epoll.Events) {
        assert(inEventLoop)
        core.epoll.change(descriptor, events, data: data(descriptor))
    }

    func deregister(_ descriptor: CInt) {
        assert(inEventLoop)
        core.epoll.remove(descriptor)
        core.targets[Int(descriptor)] = nil
    }

    private func data(_ descriptor: CInt) -> UInt64 {
        UInt64(core.generations[Int(descriptor)]) << 32 | UInt64(UInt32(descriptor))
    }

    /// An empty buffer to read into. Whoever keeps a part of it makes the next one be allocated; nobody has to give it back.
    func takeReadBuffer() -> ByteBuffer {
        assert(inEventLoop)
        var buffer = ByteBuffer()
        swap(&buffer, &core.readBuffer)
        buffer.clear(minimumCapacity: SocketLimits.readBytes)
        return buffer
    }

    func giveBack(_ buffer: consuming ByteBuffer) {
        if buffer.capacity <= 2 * SocketLimits.readBytes { core.readBuffer = buffer }
    }

    // MARK: The thread

    private func run() {
        do throws(IOError) {
            try register(wakeUp.target, wakeUp.readEnd, .readable)
        } catch {
            fatalError("an event loop could not be set up: \(error)")
        }
        while runOneTurn() {}
        closeEverything()
    }

    /// - Returns: whether there is another turn.
    private func runOneTurn() -> Bool {
        let hasOwnTasks = !core.tasks.isEmpty || core.wantsEndOfTurn
        let (given, isClosed) = inbox.withLockedValue { inbox in
            var tasks: [@Sendable () -> Void] = []
            swap(&tasks, &inbox.tasks)
            inbox.isAsleep = tasks.isEmpty && !hasOwnTasks
            return (tasks, inbox.isClosed)
        }
        for task in given { task() }
        runOwnTasks()
        runTimers()
        endTurn()
        if isClosed { return false }
        let wantedTurnWithin = core.nextTurnWithin
        core.nextTurnWithin = nil
        var sleep = hasOwnTasks || !given.isEmpty ? 0 : sleepNanoseconds()
        if let wantedTurnWithin { sleep = min(sleep ?? .max, wantedTurnWithin) }
        let ready = core.epoll.poll(nanoseconds: sleep)
        for index in 0..<ready {
            let (events, data) = core.epoll.event(index)
            let descriptor = Int(data & 0xffff_ffff)
            guard let target = core.targets[descriptor], core.generations[descriptor] == UInt32(data >> 32) else {
                continue
            }
            target.ready(events)
        }
        if wantedTurnWithin != nil { core.wantsEndOfTurn = true }
        endTurn()
        return true
    }

    private func runOwnTasks() {
        guard !core.tasks.isEmpty else { return }
        var tasks: [() -> Void] = []
        swap(&tasks, &core.tasks)
        for task in tasks { task() }
    }

    private func runTimers() {
        guard let first = core.timers.next() else { return }
        let now = NIODeadline.now().uptimeNanoseconds
        guard first <= now else { return }
        while let timer = core.timers.popDue(now: now) { timer.run() }
    }

    private func endTurn() {
        guard core.wantsEndOfTurn else { return }
        core.wantsEndOfTurn = false
        core.observer?.endOfTurn()
    }

    /// `nil`: for ever.
    private func sleepNanoseconds() -> UInt64? {
        if !core.tasks.isEmpty || core.wantsEndOfTurn { return 0 }
        guard let next = core.timers.next() else { return nil }
        let now = NIODeadline.now().uptimeNanoseconds
        // In whole milliseconds, rounded up, so that timers that are due about the same time wake it once.
        return next <= now ? 0 : (next - now + 999_999) / 1_000_000 * 1_000_000
    }

    private func closeEverything() {
        core.isEnding = true
        for target in core.targets { target?.loopEnds() }
        for timer in core.timers.takeAll() { timer.abandon() }
        core.observer = nil
        // What was handed over before the end still runs, and so does what that sets off.
        var isDone = false
        while !isDone {
            let hasOwnTasks = !core.tasks.isEmpty
            let given = inbox.withLockedValue { inbox in
                defer { inbox.tasks = [] }
                isDone = inbox.tasks.isEmpty && !hasOwnTasks
                inbox.hasEnded = isDone
                return inbox.tasks
            }
            for task in given { task() }
            runOwnTasks()
        }
    }

    // MARK: The end

    /// Ends the thread: what was handed over still runs, sockets are closed, timers fail.
    public func shutdownGracefully(
        queue: DispatchQueue, _ callback: @escaping @Sendable ((any Error)?) -> Void
    ) {
        let mustWake = inbox.withLockedValue { inbox in
            inbox.isClosed = true
            defer { inbox.isAsleep = false }
            return inbox.isAsleep
        }
        if mustWake { wakeUp.signal() }
        end.notify(queue: queue) { callback(nil) }
    }
}

/// What an event loop watches a descriptor for.
protocol PollTarget: AnyObject {
    func ready(_ events: Epoll.Events)
    /// The event loop ends: gives the descriptor up.
    func loopEnds()
}

/// A pipe by which an event loop is woken out of its sleep.
private final class WakeUp: Sendable {
    let readEnd: CInt
    private let writeEnd: CInt

    init() throws(IOError) {
        var ends: [CInt] = [-1, -1]
        guard LinuxCalls.pipe(&ends, O_NONBLOCK | O_CLOEXEC) == 0 else {
            throw IOError(errnoCode: errno, reason: "pipe2")
        }
        (readEnd, writeEnd) = (ends[0], ends[1])
    }

    deinit {
        close(readEnd)
        close(writeEnd)
    }

    var target: any PollTarget { Target(readEnd) }

    /// A pipe that is full wakes as well.
    func signal() {
        var byte: UInt8 = 0
        _ = write(writeEnd, &byte, 1)
    }

    private final class Target: PollTarget {
        private let descriptor: CInt

        init(_ descriptor: CInt) { self.descriptor = descriptor }

        func loopEnds() {}

        func ready(_ events: Epoll.Events) {
            withUnsafeTemporaryAllocation(byteCount: 64, alignment: 1) { bytes in
                _ = read(descriptor, bytes.baseAddress, bytes.count)
            }
        }
    }
}
