import Glibc
import HotKeyRegistry

/// A host and a TCP port, written `HOST:PORT`, an IPv6 address in brackets: `[::1]:6380`.
public struct HostPort: Sendable, Hashable, CustomStringConvertible {
    /// A name or an address, without brackets.
    public var host: String
    public var port: Int

    public init(host: String, port: Int) {
        self.host = host
        self.port = port
    }

    /// nil unless `text` is `HOST:PORT` with a port from 0 to 65535.
    public init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":") else { return nil }
        let digits = text[text.index(after: colon)...]
        guard (1...5).contains(digits.utf8.count), digits.utf8.allSatisfy(\.isDigit), let port = Int(digits),
            port <= 65535
        else { return nil }
        let host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            let address = String(host.dropFirst().dropLast())
            var parsed = in6_addr()
            guard inet_pton(AF_INET6, address, &parsed) == 1 else { return nil }
            self.init(host: address, port: port)
        } else {
            guard (1...253).contains(host.utf8.count),
                host.utf8.allSatisfy({ $0.isLetterOrDigit || $0 == 0x2d || $0 == 0x2e || $0 == 0x5f })
            else { return nil }
            self.init(host: String(host), port: port)
        }
    }

    public var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }

    /// Whether only this host can connect to a listener here: 127.0.0.0/8, `::1`, `localhost`.
    var isLoopback: Bool {
        guard host.contains(":") else {
            return host.lowercased() == "localhost"
                || (host.hasPrefix("127.") && host.utf8.allSatisfy { !$0.isLetter })
        }
        var parsed = in6_addr()
        guard inet_pton(AF_INET6, host, &parsed) == 1 else { return false }
        let bytes = withUnsafeBytes(of: parsed) { Array($0) }
        // The second: an IPv4 address as an IPv6 socket shows it, ::ffff:127.0.0.1.
        return bytes == Array(repeating: 0, count: 15) + [1]
            || bytes.starts(with: Array(repeating: 0, count: 10) + [0xff, 0xff, 127])
    }

    /// Whether a listener here is bound to every address, so that nobody can dial what it is bound to.
    var isWildcard: Bool { ["0.0.0.0", "::", "0"].contains(host) }
}

/// Where a listener is bound: `HOST:PORT` or `unix:PATH`.
public enum ListenAddress: Sendable, Hashable, CustomStringConvertible {
    case tcp(HostPort)
    /// An absolute path.
    case unix(path: String)

    /// What `sockaddr_un` holds, less the byte that ends it.
    static let unixPathBytesMax = MemoryLayout.size(ofValue: sockaddr_un().sun_path) - 1
    private static let unixPrefix = "unix:"

    public init?(_ text: String) {
        if text.hasPrefix(Self.unixPrefix) {
            let path = String(text.dropFirst(Self.unixPrefix.count))
            guard path.hasPrefix("/"), !path.hasSuffix("/"), path.utf8.count <= Self.unixPathBytesMax,
                path.utf8.allSatisfy({ $0 >= 0x20 })
            else { return nil }
            self = .unix(path: path)
        } else {
            guard let address = HostPort(text) else { return nil }
            self = .tcp(address)
        }
    }

    public var description: String {
        switch self {
        case .tcp(let address): address.description
        case .unix(let path): Self.unixPrefix + path
        }
    }

    var isLoopback: Bool {
        switch self {
        case .tcp(let address): address.isLoopback
        case .unix: true
        }
    }

    /// Whether two listeners at these addresses would be in each other's way. Port 0 is a free port each time.
    func collides(with other: ListenAddress) -> Bool {
        switch (self, other) {
        case (.tcp(let one), .tcp(let two)):
            one.port != 0 && one.port == two.port && (one.host == two.host || one.isWildcard || two.isWildcard)
        case (.unix(let one), .unix(let two)): one == two
        default: false
        }
    }
}

/// This host, as far as a default needs it.
enum ThisHost {
    /// As `gethostname` tells it, without asking the network; characters that an id cannot have become `-`.
    static let name: String = {
        var buffer = [CChar](repeating: 0, count: Int(HOST_NAME_MAX) + 1)
        guard gethostname(&buffer, buffer.count - 1) == 0 else { return "localhost" }
        let bytes = buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        let name = String(
            decoding: bytes.map { $0.isLetterOrDigit || $0 == UInt8(ascii: ".") ? $0 : UInt8(ascii: "-") },
            as: UTF8.self)
        return (try? AgentID(name)) == nil ? "localhost" : name
    }()
}

extension UInt8 {
    var isDigit: Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(self) }
    var isLetter: Bool { (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(self | 0x20) }
    var isLetterOrDigit: Bool { isDigit || isLetter }
}
