import Foundation

/// Encodes documents the one way they are written everywhere: JSON in UTF-8 with sorted keys and unescaped slashes.
/// Equal values give equal bytes.
public enum StrictEncoder {
    /// - Parameter indented: over several lines, for people; otherwise compact.
    /// - Throws: ``DocumentError/Code/invalidValue`` for what JSON cannot express (a number that is not finite).
    public static func encode<Value: Encodable>(
        _ value: Value, source: String = "\(Value.self)", indented: Bool = false
    ) throws(DocumentError) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        if indented { encoder.outputFormatting.insert(.prettyPrinted) }
        do {
            return Array(try encoder.encode(value))
        } catch EncodingError.invalidValue(let value, let context) {
            let path = context.codingPath.map { key in key.intValue.map(FieldStep.index) ?? .field(key.stringValue) }
            throw DocumentError(
                .invalidValue, source: source, path: FieldPath.text(path), expected: "a value that JSON can express",
                found: DocumentNode.quoted("\(value)"))
        } catch {
            throw DocumentError(
                .invalidValue, source: source, expected: "a value that JSON can express", found: "\(error)")
        }
    }
}
