import Glibc

/// Functions of Linux's C library that Swift's `Glibc` does not import: it leaves out `<sys/epoll.h>` and what only `_GNU_SOURCE` shows.
/// They are looked up by name, and have the types of their manual pages.
enum LinuxCalls {
    typealias EpollCreate = @convention(c) (_ flags: CInt) -> CInt
    typealias EpollControl =
        @convention(c) (
            _ epoll: CInt, _ operation: CInt, _ descriptor: CInt, _ event: UnsafeMutableRawPointer?
        ) -> CInt
    typealias EpollWait =
        @convention(c) (
            _ epoll: CInt, _ events: UnsafeMutableRawPointer, _ eventsMax: CInt, _ milliseconds: CInt
        ) -> CInt
    typealias EpollPreciseWait =
        @convention(c) (
            _ epoll: CInt, _ events: UnsafeMutableRawPointer, _ eventsMax: CInt, _ timeout: UnsafePointer<timespec>?,
            _ signals: UnsafePointer<sigset_t>?
        ) -> CInt
    typealias Accept =
        @convention(c) (
            _ listener: CInt, _ address: UnsafeMutablePointer<sockaddr>?, _ size: UnsafeMutablePointer<socklen_t>?,
            _ flags: CInt
        ) -> CInt
    typealias Pipe = @convention(c) (_ ends: UnsafeMutablePointer<CInt>, _ flags: CInt) -> CInt

    typealias NameThread = @convention(c) (_ thread: pthread_t, _ name: UnsafePointer<CChar>) -> CInt

    static let epollCreate: EpollCreate = function("epoll_create1")
    static let epollControl: EpollControl = function("epoll_ctl")
    static let epollWait: EpollWait = function("epoll_wait")
    /// Since Linux 5.11 and glibc 2.35; `nil` where the C library has none.
    static let epollPreciseWait: EpollPreciseWait? = functionIfThere("epoll_pwait2")
    static let accept: Accept = function("accept4")
    static let pipe: Pipe = function("pipe2")

    static let nameThread: NameThread = function("pthread_setname_np")

    private static func function<F>(_ name: String, as type: F.Type = F.self) -> F {
        guard let function = functionIfThere(name, as: type) else {
            fatalError("the C library of this system has no \(name): Linux is needed")
        }
        return function
    }

    private static func functionIfThere<F>(_ name: String, as type: F.Type = F.self) -> F? {
        // The types above are those of the functions of these names, and an `@convention(c)` function is an address.
        dlsym(nil, name).map { unsafeBitCast($0, to: F.self) }
    }
}
