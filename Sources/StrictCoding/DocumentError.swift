/// Why a document was refused: which one, where in it, what was expected there and what was found.
///
/// `description` is one line that an operator can act on:
/// `rules.json:12:15: rules[2].copies: expected an integer from 1 to 8, found 9`.
public struct DocumentError: Error, Sendable, Hashable, CustomStringConvertible {
    public enum Code: Sendable, Hashable {
        /// More bytes, or deeper nesting, than the caller allows.
        case tooLarge
        /// Not UTF-8, or neither JSON nor YAML.
        case syntax
        case duplicateField
        case unknownField
        case missingField
        case wrongType
        /// The right type, but not a value that the field can have.
        case invalidValue
        /// A schema number that this version does not know.
        case unknownSchema
    }
    public var code: Code
    /// The file name or znode path that the caller gave.
    public var source: String
    /// From 1; nil where the place is not known.
    public var line: Int?
    /// From 1, in characters (Unicode scalars); nil where the place is not known.
    public var column: Int?
    /// As `rules[2].copies`; empty for the document itself.
    public var path: String
    public var expected: String
    /// What stands there instead; empty where nothing can be said. Values of fields whose name speaks of a secret are
    /// never repeated.
    public var found: String

    public init(
        _ code: Code, source: String, line: Int? = nil, column: Int? = nil, path: String = "", expected: String,
        found: String = ""
    ) {
        self.code = code
        self.source = source
        self.line = line
        self.column = column
        self.path = path
        self.expected = expected
        self.found = found
    }

    public var description: String {
        var text = source
        if let line { text += ":\(line)" }
        if line != nil, let column { text += ":\(column)" }
        if !path.isEmpty { text += ": \(path)" }
        text += ": expected \(expected)"
        return found.isEmpty ? text : "\(text), found \(found)"
    }
}
