/// What is wrong with bytes that claim to be RESP.
public struct RESPError: Error, Sendable, Hashable, CustomStringConvertible {
    public enum Code: Sendable, Hashable {
        /// A client's request breaks the protocol. ``message`` is Redis's own text: answer `-ERR Protocol error: message` and
        /// close that connection.
        case malformedRequest
        /// A server's reply breaks the protocol: the connection cannot be used any more.
        case malformedReply
        /// A reply is larger, deeper or longer than ``RESPLimits`` or the caller allows.
        case replyTooLarge
    }
    public var code: Code
    public var message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}
