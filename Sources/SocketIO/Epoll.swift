import Glibc
import NIOCore

/// Linux's `epoll`, level-triggered.
///
/// The values below are those of the kernel's interface (`include/uapi/linux/eventpoll.h`), which does not change.
struct Epoll: ~Copyable {
    struct Events: OptionSet {
        let rawValue: UInt32

        static let readable = Events(rawValue: 0x001)
        static let writable = Events(rawValue: 0x004)
        /// Reported whether asked for or not: an error, and an end of both directions.
        static let broken = Events(rawValue: 0x008 | 0x010)
        /// The other side sends no more; what it has sent may still be there.
        static let inputEnded = Events(rawValue: 0x2000)
    }

    private enum Operation: CInt {
        case add = 1
        case remove = 2
        case change = 3
    }

    // `struct epoll_event`: 32 bits of events, then 64 bits that are handed back; without padding between them on x86-64 alone.
    #if arch(x86_64)
        private static let dataOffset = 4
        private static let eventBytes = 12
    #else
        private static let dataOffset = 8
        private static let eventBytes = 16
    #endif

    private let descriptor: CInt
    private let events: UnsafeMutableRawPointer

    init() throws(IOError) {
        descriptor = LinuxCalls.epollCreate(O_CLOEXEC)
        guard descriptor >= 0 else { throw IOError(errnoCode: errno, reason: "epoll_create1") }
        events = .allocate(byteCount: SocketLimits.eventsPerPoll * Self.eventBytes, alignment: 8)
    }

    deinit {
        events.deallocate()
        close(descriptor)
    }

    func add(_ socket: CInt, _ events: Events, data: UInt64) throws(IOError) {
        guard call(.add, socket, events, data) == 0 else { throw IOError(errnoCode: errno, reason: "epoll_ctl") }
    }

    /// The socket has been added and not been removed, so only a lack of memory could make this fail, and it needs none.
    func change(_ socket: CInt, _ events: Events, data: UInt64) {
        _ = call(.change, socket, events, data)
    }

    func remove(_ socket: CInt) {
        _ = call(.remove, socket, [], 0)
    }

    private func call(_ operation: Operation, _ socket: CInt, _ events: Events, _ data: UInt64) -> CInt {
        withUnsafeTemporaryAllocation(byteCount: Self.eventBytes, alignment: 8) { event in
            event.initializeMemory(as: UInt8.self, repeating: 0)
            event.storeBytes(of: events.rawValue, as: UInt32.self)
            event.storeBytes(of: data, toByteOffset: Self.dataOffset, as: UInt64.self)
            return LinuxCalls.epollControl(descriptor, operation.rawValue, socket, event.baseAddress)
        }
    }

    /// Waits until something is ready.
    ///
    /// - Parameter nanoseconds: at most; `nil`: for ever. On a system without `epoll_pwait2` it is rounded up to whole milliseconds.
    /// - Returns: how many events ``event(_:)`` has now.
    func poll(nanoseconds: UInt64?) -> Int {
        let eventsMax = CInt(SocketLimits.eventsPerPoll)
        if let nanoseconds, nanoseconds % 1_000_000 != 0, let wait = LinuxCalls.epollPreciseWait {
            var timeout = timespec(
                tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
            let count = wait(descriptor, events, eventsMax, &timeout, nil)
            // Old kernels do not know the call, and old filters of system calls forbid it: with ENOSYS, or with EPERM.
            if count >= 0 || errno == EINTR { return max(0, Int(count)) }
        }
        let milliseconds = nanoseconds.map { CInt(clamping: $0 / 1_000_000 + ($0 % 1_000_000 == 0 ? 0 : 1)) } ?? -1
        return max(0, Int(LinuxCalls.epollWait(descriptor, events, eventsMax, milliseconds)))
    }

    @inline(__always)
    func event(_ index: Int) -> (events: Events, data: UInt64) {
        let event = events + index * Self.eventBytes
        return (
            Events(rawValue: event.loadUnaligned(as: UInt32.self)),
            event.loadUnaligned(fromByteOffset: Self.dataOffset, as: UInt64.self)
        )
    }
}
