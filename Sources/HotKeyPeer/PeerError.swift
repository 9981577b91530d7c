/// Why an agent could not be asked. The message names the agent's address.
public struct PeerError: Error, Sendable, Hashable, CustomStringConvertible {
    public enum Code: Sendable, Hashable {
        /// An argument that can never work. Nothing was sent.
        case badArgument
        /// No connection: nobody listens there, or the host is not known or not reachable.
        case unreachable
        /// No connection, or no answer, in time. The connection is closed with it.
        case timedOut
        /// The connection ended while the call was under way, or before. The agent may have done what it was asked.
        case closed
        /// What came is not the answer to what was asked. The connection is closed with it when the bytes are not even RESP.
        case malformedReply
        /// The answer is longer than allowed. The connection is closed with it.
        case replyTooLarge
        /// TLS could not be agreed on, or the agent does not accept the password.
        case notAdmitted
        /// The agent answered with an error.
        case refused
        /// More calls under way than ``PeerLimits/callsInFlightMax``. Nothing was sent.
        case tooManyInFlight
    }
    public var code: Code
    public var address: String
    public var message: String

    public init(_ code: Code, address: String, _ message: String) {
        self.code = code
        self.address = address
        self.message = message
    }

    /// Whether the same call may succeed later, over a new connection, without anything else changing.
    public var isRetriable: Bool {
        switch code {
        case .unreachable, .timedOut, .closed, .tooManyInFlight: true
        case .badArgument, .malformedReply, .replyTooLarge, .notAdmitted, .refused: false
        }
    }

    public var description: String { "\(address): \(message)" }
}
