/// Where an agent's own commands are served.
public enum PeerAddress: Sendable, Hashable, CustomStringConvertible {
    /// A name or an address, an IPv6 address without brackets.
    case tcp(host: String, port: Int)
    case unix(path: String)

    private static let unixPrefix = "unix:"

    /// From `HOST:PORT`, `[IPv6]:PORT` or `unix:/PATH`; nil for anything else.
    public init?(_ text: String) {
        if text.hasPrefix(Self.unixPrefix) {
            let path = text.dropFirst(Self.unixPrefix.count)
            guard path.hasPrefix("/") else { return nil }
            self = .unix(path: String(path))
            return
        }
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]), port > 0 else {
            return nil
        }
        var host = text[..<colon]
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return nil
        }
        guard !host.isEmpty else { return nil }
        self = .tcp(host: String(host), port: Int(port))
    }

    /// What a TLS certificate is compared with: a Unix socket is on this host.
    var host: String {
        switch self {
        case .tcp(let host, _): host
        case .unix: "localhost"
        }
    }

    public var description: String {
        switch self {
        case .tcp(let host, let port): host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
        case .unix(let path): Self.unixPrefix + path
        }
    }
}
