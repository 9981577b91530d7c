/// Decodes JSON and YAML without ever guessing: an unknown, missing, repeated or mistyped field refuses the whole
/// document with one ``DocumentError`` that names the line and the field.
///
/// - The text is JSON when its first byte that is not space is `{` or `[`, otherwise YAML.
/// - A type's `CodingKeys` are its known fields: a field for which `CodingKeys(stringValue:)` is nil is refused. Declare
///   `CodingKeys: CaseIterable` and the error lists them and suggests the nearest. A type must not read one value through
///   two different key types.
/// - `null` counts as absent for optional fields and is refused for others.
/// - Types that conform to ``Validating`` are checked wherever they stand.
public enum StrictDecoder {
    /// - Parameters:
    ///   - source: what errors call the document: a file name or a path.
    ///   - bytesMax: a longer document is refused unread.
    public static func decode<Value: Decodable>(
        _ type: Value.Type = Value.self, from bytes: [UInt8], source: String,
        bytesMax: Int = StrictCodingLimits.inputBytesMax
    ) throws(DocumentError) -> Value {
        try ParsedDocument(bytes, source: source, bytesMax: bytesMax).decode(type)
    }

    public static func decode<Value: Decodable>(
        _ type: Value.Type = Value.self, from text: String, source: String,
        bytesMax: Int = StrictCodingLimits.inputBytesMax
    ) throws(DocumentError) -> Value {
        try decode(type, from: Array(text.utf8), source: source, bytesMax: bytesMax)
    }
}

/// A document that has been read but not yet decoded, for callers that must look at one field (a schema number) before
/// they know what to decode.
public struct ParsedDocument: Sendable {
    let root: DocumentNode
    public let source: String

    /// Errors: ``DocumentError/Code/tooLarge``, ``DocumentError/Code/syntax``, ``DocumentError/Code/duplicateField``.
    public init(
        _ bytes: [UInt8], source: String, bytesMax: Int = StrictCodingLimits.inputBytesMax
    ) throws(DocumentError) {
        guard bytes.count <= bytesMax else {
            throw DocumentError(
                .tooLarge, source: source, expected: "at most \(bytesMax) bytes", found: "\(bytes.count)")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw DocumentError(.syntax, source: source, expected: "text in UTF-8", found: "other bytes")
        }
        let first = bytes.first { !($0 == 0x20 || (0x09...0x0d).contains($0)) }
        self.source = source
        if first == UInt8(ascii: "{") || first == UInt8(ascii: "[") {
            root = try JSONParser.parse(bytes, source: source)
        } else {
            root = try YAMLParser.parse(text, source: source)
        }
    }

    /// The integer that stands under `field` of the top-level mapping, nil when there is none.
    public func integer(_ field: String) -> Int? {
        guard case .mapping(let mapping) = root.content, case .number(let text) = mapping[field]?.value.content else {
            return nil
        }
        return Int(text)
    }

    /// Line and column of the value at `path`, or of the nearest value around it that exists.
    public func position(of path: [FieldStep]) -> (line: Int, column: Int) {
        let position = root.descend(path).node.position
        return (Int(position.line), Int(position.column))
    }

    public func decode<Value: Decodable>(_ type: Value.Type = Value.self) throws(DocumentError) -> Value {
        let decoder = NodeDecoder(node: root, path: nil, source: source)
        do {
            return try decoder.decodeValue(type)
        } catch let error as DocumentError {
            throw error
        } catch {
            throw decoder.translate(error)
        }
    }
}
