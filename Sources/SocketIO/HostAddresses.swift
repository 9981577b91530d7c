import Glibc
import NIOCore

/// A host name could not be turned into an address.
public struct ResolveError: Error, CustomStringConvertible {
    public let host: String
    public let reason: String

    public var description: String { "the host \(host) cannot be looked up: \(reason)" }
}

enum HostAddresses {
    /// The addresses of a host, at most ``SocketLimits/addressesMax``, in the system's order (RFC 6724). Blocks while a name is looked
    /// up.
    static func resolve(host: String, port: Int) throws -> [SocketAddress] {
        if let address = literal(host: host, port: port) { return [address] }
        var hints = addrinfo()
        hints.ai_socktype = CInt(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        let code = getaddrinfo(host, "\(port)", &hints, &found)
        guard code == 0 else { throw ResolveError(host: host, reason: String(cString: gai_strerror(code))) }
        defer { freeaddrinfo(found) }
        var addresses: [SocketAddress] = []
        var rest = found
        while let entry = rest?.pointee, addresses.count < SocketLimits.addressesMax {
            // The system says by `ai_family` what `ai_addr` points to; it lives until `freeaddrinfo`.
            switch entry.ai_family {
            case AF_INET:
                entry.ai_addr.withMemoryRebound(to: sockaddr_in.self, capacity: 1) {
                    addresses.append(SocketAddress($0.pointee, host: host))
                }
            case AF_INET6:
                entry.ai_addr.withMemoryRebound(to: sockaddr_in6.self, capacity: 1) {
                    addresses.append(SocketAddress($0.pointee, host: host))
                }
            default: break
            }
            rest = entry.ai_next
        }
        return addresses
    }

    /// An address that needs no looking up.
    static func literal(host: String, port: Int) -> SocketAddress? { try? SocketAddress(ipAddress: host, port: port) }

    /// A socket that does not block.
    static func socket(for address: SocketAddress) throws(IOError) -> CInt {
        let family = address.protocol == .inet6 ? AF_INET6 : AF_INET
        let kind = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
        let descriptor = Glibc.socket(family, kind, 0)
        guard descriptor >= 0 else { throw IOError(errnoCode: errno, reason: "socket") }
        return descriptor
    }
}
