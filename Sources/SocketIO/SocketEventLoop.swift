public import Dispatch
import Glibc
import NIOConcurrencyHelpers
public import NIOCore

/// What an event loop does once all that came in together has been handed over.
public protocol TurnObserver: AnyObject {
    /// Called on the event loop, at the end of a turn in which ``SocketEventLoop/requestEndOfTurn()`` was called.
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
        var lastTimer: TimerQueue.ID = 0
    }

    private let inbox = NIOLockedValueBox(Inbox())
    private let wakeUp: WakeUp
    private let hasEnded = DispatchGroup()
    // Written by the new thread before `init` returns, and never again.
    nonisolated(unsafe) private var thread: pthread_t?
    // Used by the thread of this event loop alone: every way to it asserts that.
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
        var observer: (any TurnObserver)?
        var readBuffer = ByteBuffer()

        init() throws(IOError) { epoll = try Epoll() }
    }

    /// - Parameter name: of the thread; the first 15 bytes count.
    init(name: String) throws(IOError) {
        core = try Core()
        wakeUp = try WakeUp()
        let started = DispatchSemaphore(value: 0)
        hasEnded.enter()
        try Self.startThread { [self] in
            thread = pthread_self()
            _ = LinuxCalls.nameThread(pthread_self(), String(name.prefix(15)))
            started.signal()
            run()
            hasEnded.leave()
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

    public var inEventLoop: Bool {
        guard let thread else { return false }
        return pthread_equal(thread, pthread_self()) != 0
    }

    public func execute(_ task: @escaping @Sendable () -> Void) { _ = add(task) }

    public func submit<T>(_ task: @escaping @Sendable () throws -> T) -> EventLoopFuture<T> {
        let promise = makePromise(of: T.self)
        let isAdded = add {
            do { promise.assumeIsolatedUnsafeUnchecked().succeed(try task()) } catch { promise.fail(error) }
        }
        if !isAdded { promise.fail(EventLoopError.shutdown) }
        return promise.futureResult
    }

    /// - Returns: whether it will run; not when the event loop has ended.
    private func add(_ task: @escaping @Sendable () -> Void) -> Bool {
        if inEventLoop {
            core.tasks.append(task)
            return true
        }
        let (isAdded, mustWake) = inbox.withLockedValue { inbox in
            guard !inbox.isClosed else { return (false, false) }
            inbox.tasks.append(task)
            defer { inbox.isAsleep = false }
            return (true, inbox.isAsleep)
        }
        if mustWake { wakeUp.signal() }
        return isAdded
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
        let isAdded = onLoop { [self] in
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
        if !isAdded { promise.fail(EventLoopError.shutdown) }
        // The event loop outlives what is scheduled on it; a weak reference lets one that was shut down go.
        return Scheduled(promise: promise) { [weak self] in
            guard let self else { return }
            _ = onLoop { self.core.timers.cancel(id) }
        }
    }

    public func scheduleTask<T>(in delay: TimeAmount, _ task: @escaping @Sendable () throws -> T) -> Scheduled<T> {
        scheduleTask(deadline: .now() + delay, task)
    }

    private func onLoop(_ body: @escaping @Sendable () -> Void) -> Bool {
        guard inEventLoop else { return add(body) }
        body()
        return true
    }

    // MARK: Sockets, on the event loop

    /// Who is told of the ends of turns; kept alive until the event loop has ended or another is named.
    public func setObserver(_ observer: (any TurnObserver)?) {
        preconditionInEventLoop()
        core.observer = observer
    }

    @inline(__always)
    public func requestEndOfTurn() {
        assert(inEventLoop)
        core.wantsEndOfTurn = true
    }

    func register(_ target: any PollTarget, _ descriptor: CInt, _ events: Epoll.Events) throws(IOError) {
        assert(inEventLoop)
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
        var buffer = core.readBuffer
        core.readBuffer = ByteBuffer()
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
        let ready = core.epoll.poll(milliseconds: hasOwnTasks || !given.isEmpty ? 0 : sleepMilliseconds())
        for index in 0..<ready {
            let (events, data) = core.epoll.event(index)
            let descriptor = Int(data & 0xffff_ffff)
            guard let target = core.targets[descriptor], core.generations[descriptor] == UInt32(data >> 32) else {
                continue
            }
            target.ready(events)
        }
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

    private func sleepMilliseconds() -> CInt {
        if !core.tasks.isEmpty || core.wantsEndOfTurn { return 0 }
        guard let next = core.timers.next() else { return -1 }
        let now = NIODeadline.now().uptimeNanoseconds
        // Rounded up, or the last millisecond before a timer would be spent asking.
        return next <= now ? 0 : CInt(clamping: (next - now + 999_999) / 1_000_000)
    }

    private func closeEverything() {
        for target in core.targets { target?.loopEnds() }
        for timer in core.timers.takeAll() { timer.abandon() }
        // What was handed over before the end still runs, and so does what that sets off.
        for _ in 0..<SocketLimits.closingTurnsMax {
            let given = inbox.withLockedValue { inbox in
                defer { inbox.tasks = [] }
                return inbox.tasks
            }
            guard !given.isEmpty || !core.tasks.isEmpty else { break }
            for task in given { task() }
            runOwnTasks()
            for timer in core.timers.takeAll() { timer.abandon() }
        }
        core.observer = nil
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
        hasEnded.notify(queue: queue) { callback(nil) }
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
