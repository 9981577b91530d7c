/// What keeps the proxy from starting or from taking a snapshot.
public struct RedisProxyError: Error, Sendable, CustomStringConvertible {
    public enum Code: Sendable, Hashable {
        /// An address is in use, not ours, or not permitted.
        case cannotListen
        /// The proxy has been shut down.
        case stopped
    }
    public var code: Code
    public var message: String
    public var file: String
    public var line: Int

    init(_ code: Code, _ message: String, file: String = #fileID, line: Int = #line) {
        self.code = code
        self.message = message
        self.file = file
        self.line = line
    }

    public var description: String { message }
}
