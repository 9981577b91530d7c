import Glibc
import Logging
import NIOConcurrencyHelpers

/// A few file descriptors that are held only to be let go when the process runs out of them.
///
/// A process without a free one does not merely fail to take clients. libdispatch, which runs Swift's tasks, looks at its threads once a
/// second while work waits for one, and ends the process when it cannot open `/proc/TID/stat` for that:
///
///     a client is accepted and takes the last descriptor; libdispatch: open fails → "registered worker exited prematurely", SIGILL
///
/// So what takes descriptors asks ``isShort(now:)`` right after. That finds the shortage while some are still free, and lets go of those
/// held. Until they can be had back, no client is accepted, and clients get no connections of their own to nodes; what the agent
/// needs itself may use the ones let go.
final class DescriptorReserve: Sendable {
    private struct State {
        var held: [CInt] = []
        var isShort = false
        var regainAt: UInt64 = 0
        var isClosed = false
    }

    private let state = NIOLockedValueBox(State())
    private let logger: Logger
    private let open: @Sendable () -> CInt
    private let close: @Sendable (CInt) -> Void

    /// - Parameters:
    ///   - open: takes a descriptor; negative when there is none.
    ///   - close: gives it back.
    init(
        logger: Logger, open: @escaping @Sendable () -> CInt = { Glibc.open("/dev/null", O_RDONLY | O_CLOEXEC) },
        close: @escaping @Sendable (CInt) -> Void = { Glibc.close($0) }
    ) {
        self.logger = logger
        self.open = open
        self.close = close
        _ = state.withLockedValue { regain(&$0) }
    }

    deinit { letGo() }

    /// Whether descriptors have run out.
    ///
    /// - Parameter now: nanoseconds of any clock that only goes forward.
    func isShort(now: UInt64) -> Bool {
        state.withLockedValue { state in
            if !state.isShort {
                let spare = take(RedisProxyLimits.spareDescriptors)
                spare.forEach(close)
                if spare.count < RedisProxyLimits.spareDescriptors { begin(&state, now) }
            } else if now >= state.regainAt {
                if regain(&state) {
                    logger.notice("there are file descriptors again: clients are accepted")
                } else {
                    state.regainAt = now + RedisProxyLimits.descriptorRegainNanoseconds
                }
            }
            return state.isShort
        }
    }

    /// The system has refused a descriptor.
    func noteShortage(now: UInt64) {
        state.withLockedValue { if !$0.isShort { begin(&$0, now) } }
    }

    /// Gives all back and takes no more.
    func letGo() {
        state.withLockedValue { state in
            state.isClosed = true
            state.held.forEach(close)
            state.held = []
        }
    }

    private func begin(_ state: inout State, _ now: UInt64) {
        state.held.forEach(close)
        state.held = []
        state.isShort = true
        state.regainAt = now + RedisProxyLimits.descriptorRegainNanoseconds
        logger.warning(
            """
            this process has no file descriptors left: new clients wait, and clients get no connections of their own to cache nodes. \
            Raise the limit (ulimit -n, LimitNOFILE=) or lower clientsMax
            """)
    }

    /// Asks for more than must be free, or it would be short again with the next one taken.
    /// - Returns: whether all could be had.
    private func regain(_ state: inout State) -> Bool {
        guard !state.isClosed else { return false }
        let wanted = RedisProxyLimits.heldDescriptors + 2 * RedisProxyLimits.spareDescriptors
        var taken = take(wanted)
        state.isShort = taken.count < wanted
        if !state.isShort {
            state.held = Array(taken.prefix(RedisProxyLimits.heldDescriptors))
            taken.removeFirst(RedisProxyLimits.heldDescriptors)
        }
        taken.forEach(close)
        return !state.isShort
    }

    private func take(_ count: Int) -> [CInt] {
        var taken: [CInt] = []
        while taken.count < count {
            let descriptor = open()
            guard descriptor >= 0 else { break }
            taken.append(descriptor)
        }
        return taken
    }
}
