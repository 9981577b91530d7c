import Glibc
import NIOCore

/// What is asked of the system about a socket by its descriptor.
enum Descriptor {
    /// The error that the socket has met, which is forgotten by asking; 0: none.
    static func takeError(_ descriptor: CInt) -> CInt {
        var code: CInt = 0
        var size = socklen_t(MemoryLayout<CInt>.size)
        return getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &size) == 0 ? code : errno
    }

    static func peerAddress(_ descriptor: CInt) -> SocketAddress? { address(descriptor, getpeername) }
    static func localAddress(_ descriptor: CInt) -> SocketAddress? { address(descriptor, getsockname) }

    private static func address(
        _ descriptor: CInt, _ ask: (CInt, UnsafeMutablePointer<sockaddr>?, UnsafeMutablePointer<socklen_t>?) -> CInt
    ) -> SocketAddress? {
        var storage = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        return withUnsafeMutablePointer(to: &storage) { pointer in
            // `sockaddr_storage` is made to hold any kind of address.
            let code = pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { ask(descriptor, $0, &size) }
            guard code == 0 else { return nil }
            switch CInt(pointer.pointee.ss_family) {
            case AF_INET:
                return pointer.withMemoryRebound(to: sockaddr_in.self, capacity: 1) { SocketAddress($0.pointee) }
            case AF_INET6:
                return pointer.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) { SocketAddress($0.pointee) }
            default: return nil
            }
        }
    }

    @discardableResult
    static func set(_ descriptor: CInt, _ level: CInt, _ option: CInt, _ value: CInt) -> Bool {
        withUnsafePointer(to: value) {
            setsockopt(descriptor, level, option, $0, socklen_t(MemoryLayout<CInt>.size)) == 0
        }
    }

    static func setNonBlocking(_ descriptor: CInt) -> Bool {
        let flags = fcntl(descriptor, F_GETFL)
        return flags >= 0 && fcntl(descriptor, F_SETFL, flags | O_NONBLOCK) == 0
    }
}

/// What the sockets of TCP connections are set to.
public struct TCPOptions: Sendable {
    /// Found out by the system asking, in seconds: how long nothing must have come, the pause between questions, and how many are
    /// asked; `nil`: as the system has it.
    public var keepAlive: (idleSeconds: Int, intervalSeconds: Int, probes: Int)?

    public init(keepAlive: (idleSeconds: Int, intervalSeconds: Int, probes: Int)? = nil) {
        self.keepAlive = keepAlive
    }

    /// A socket that does not take one is served without it.
    func apply(_ descriptor: CInt) {
        let tcp = CInt(IPPROTO_TCP)
        Descriptor.set(descriptor, tcp, TCP_NODELAY, 1)
        Descriptor.set(descriptor, SOL_SOCKET, SO_KEEPALIVE, 1)
        guard let keepAlive else { return }
        Descriptor.set(descriptor, tcp, TCP_KEEPIDLE, CInt(clamping: keepAlive.idleSeconds))
        Descriptor.set(descriptor, tcp, TCP_KEEPINTVL, CInt(clamping: keepAlive.intervalSeconds))
        Descriptor.set(descriptor, tcp, TCP_KEEPCNT, CInt(clamping: keepAlive.probes))
    }
}
