/// What detection refuses, and why.
///
/// The message names the place (field, pattern, byte offset) and what was expected there.
public struct DetectionError: Error, Hashable, Sendable, CustomStringConvertible {
    public struct Code: Hashable, Sendable, CustomStringConvertible {
        public let description: String

        /// A report frame that does not follow the documented format.
        public static let malformedReport = Code(description: "malformedReport")
        /// A rule with a value out of its range.
        public static let invalidRule = Code(description: "invalidRule")
        /// More of something than the limits allow.
        public static let tooMany = Code(description: "tooMany")
    }

    public let code: Code
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    public var description: String { "\(code): \(message)" }
}
