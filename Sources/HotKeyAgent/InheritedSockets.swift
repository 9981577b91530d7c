import Glibc
import NIOCore

/// Listening sockets that the process which started this one has opened, by systemd's protocol (`sd_listen_fds(3)`): `LISTEN_FDS`
/// descriptors from 3 on, meant for the process `LISTEN_PID`.
///
/// Whoever has such a socket open shares one queue of connections. So an agent may end while the next one starts: what nobody has
/// accepted stays in the queue, and no connection is refused or reset.
public struct InheritedSockets: Sendable {
    private struct Socket: Sendable {
        var descriptor: CInt
        var address: SocketAddress
    }

    private var sockets: [Socket] = []

    /// None.
    public init() {}

    /// Those that `environment` tells of; none when it is meant for another process. To be called once: the sockets belong to the
    /// value then.
    ///
    /// Errors: ``AgentError/Code/unusableSocket``, which names the descriptor.
    public init(environment: [String: String]) throws {
        guard let process = environment["LISTEN_PID"], Int(process) == Int(getpid()),
            let text = environment["LISTEN_FDS"]
        else { return }
        guard let count = Int(text), (0...AgentLimits.inheritedSocketsMax).contains(count) else {
            throw AgentError(
                .unusableSocket,
                "LISTEN_FDS: expected a number of sockets from 0 to \(AgentLimits.inheritedSocketsMax), found '\(text.prefix(16))'"
            )
        }
        for descriptor in 3..<CInt(3 + count) {
            sockets.append(Socket(descriptor: descriptor, address: try Self.prepare(descriptor)))
        }
    }

    var isEmpty: Bool { sockets.isEmpty }

    /// The socket that listens at `address`, if there is one.
    func descriptor(for address: ListenAddress) -> CInt? {
        guard let wanted = try? SocketAddress(address) else { return nil }
        return sockets.first { $0.address == wanted }?.descriptor
    }

    /// A socket that no setting names would be listened on by nobody, and its clients wait for ever.
    func check(against addresses: [ListenAddress]) throws {
        let wanted = addresses.compactMap { try? SocketAddress($0) }
        guard let stray = sockets.first(where: { !wanted.contains($0.address) }) else { return }
        throw AgentError(
            .unusableSocket,
            """
            the socket passed as descriptor \(stray.descriptor) is bound to \(stray.address.plain), expected \
            \(addresses.map(\.description).joined(separator: " or ")): make the socket unit's addresses and listen and peer the same
            """)
    }

    private static func prepare(_ descriptor: CInt) throws -> SocketAddress {
        func refuse(_ what: String) -> AgentError {
            AgentError(
                .unusableSocket, "LISTEN_FDS: descriptor \(descriptor) is \(what); expected a listening stream socket")
        }
        func option(_ name: CInt) -> CInt? {
            var value: CInt = 0
            var size = socklen_t(MemoryLayout<CInt>.size)
            return getsockopt(descriptor, SOL_SOCKET, name, &value, &size) == 0 ? value : nil
        }
        guard let type = option(SO_TYPE) else { throw refuse("no socket") }
        guard type == CInt(SOCK_STREAM.rawValue) else { throw refuse("a socket of another type") }
        guard option(SO_ACCEPTCONN) == 1 else { throw refuse("a socket that does not listen") }
        guard fcntl(descriptor, F_SETFD, FD_CLOEXEC) == 0,
            fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL) | O_NONBLOCK) == 0
        else { throw refuse("a socket that cannot be set up") }
        var storage = sockaddr_storage()
        var size = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &size) }
        }
        guard result == 0, let address = SocketAddress(storage) else { throw refuse("a socket of an unknown family") }
        return address
    }
}

extension SocketAddress {
    fileprivate init(_ address: ListenAddress) throws {
        switch address {
        case .tcp(let address): self = try .makeAddressResolvingHost(address.host, port: address.port)
        case .unix(let path): self = try SocketAddress(unixDomainSocketPath: path)
        }
    }

    /// `nil` for a family that the agent does not listen on.
    fileprivate init?(_ storage: sockaddr_storage) {
        func read<T>(_ type: T.Type) -> T { withUnsafeBytes(of: storage) { $0.loadUnaligned(as: T.self) } }
        switch CInt(storage.ss_family) {
        case AF_INET: self.init(read(sockaddr_in.self))
        case AF_INET6: self.init(read(sockaddr_in6.self))
        case AF_UNIX: self.init(read(sockaddr_un.self))
        default: return nil
        }
    }

    fileprivate var plain: String {
        guard let ipAddress, let port else { return pathname.map { "unix:\($0)" } ?? "an unknown address" }
        return HostPort(host: ipAddress, port: port).description
    }
}
