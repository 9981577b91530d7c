/// What went wrong in a test's surroundings (not in the code under test).
public struct TestSupportError: Error, Sendable, CustomStringConvertible {
    public enum Code: Sendable, Equatable {
        /// A program that the tests need is not installed; the message holds the line that installs it.
        case missingProgram
        /// A process could not be started, or ended when it should not have.
        case process
        /// A server did not become ready.
        case notReady
        /// Somebody else took the port between its choice and its use.
        case portTaken
        /// A system call failed.
        case system
        /// A limit in time passed.
        case timeout
        /// The other side closed or reset the connection.
        case connectionClosed
        /// Nobody listens there.
        case connectionRefused
        /// The other side sent something that is not RESP.
        case malformedReply
        /// The caller asked for something impossible.
        case misuse
    }

    public let code: Code
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { message }
}
