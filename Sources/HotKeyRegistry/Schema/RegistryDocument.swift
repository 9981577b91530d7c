public import StrictCoding

/// What stands in one znode: JSON with sorted keys, a schema number and a cap.
public protocol RegistryDocument: Codable, Sendable, Hashable, Validating {
    /// The most bytes its znode may hold.
    static var bytesMax: Int { get }
    var schema: Int { get }
    /// Reads the document where it stands exactly as it is written here and is valid; nil otherwise, which says nothing.
    static func scan(_ bytes: [UInt8]) -> Self?
}

extension RegistryDocument {
    public static func scan(_ bytes: [UInt8]) -> Self? { nil }
}

/// Bytes of a znode to a document and back. A document is taken whole or refused whole.
public enum RegistryCodec {
    /// Refuses what is over the cap, of another schema, not strict JSON, or makes no sense.
    /// - Parameter source: what the error calls it: the znode's path or the operator's file.
    public static func decode<Document: RegistryDocument>(
        _ type: Document.Type = Document.self, from bytes: [UInt8], source: String
    ) throws(DocumentError) -> Document {
        if let document = Document.scan(bytes) { return document }
        let parsed = try ParsedDocument(bytes, source: source, bytesMax: Document.bytesMax)
        // First, so that a newer document is called newer and not full of unknown fields.
        if let schema = parsed.integer("schema"), schema != RegistryLimits.schema {
            let (line, column) = parsed.position(of: ["schema"])
            throw DocumentError(
                .unknownSchema, source: source, line: line, column: column, path: "schema",
                expected: "\(RegistryLimits.schema), the schema this version reads", found: "\(schema)")
        }
        return try parsed.decode(type)
    }

    /// Refuses a document that makes no sense or would pass its cap: nothing is ever cut to fit.
    public static func encode<Document: RegistryDocument>(
        _ document: Document, source: String
    ) throws(DocumentError) -> [UInt8] {
        let bytes = try StrictEncoder.encode(document, source: source)
        // Reading back what is about to be written runs every nested validation, and tells the places of the fields.
        _ = try decode(Document.self, from: bytes, source: source)
        return bytes
    }
}

extension RegistryDocument {
    func requireSchema() throws {
        try require(schema == RegistryLimits.schema, "schema", expected: "\(RegistryLimits.schema)")
    }
}

extension KeyedDecodingContainer {
    /// The field's value, or its documented default where it is absent.
    func decode<Value: Decodable>(_ key: Key, default value: @autoclosure () -> Value) throws -> Value {
        try decodeIfPresent(Value.self, forKey: key) ?? value()
    }
}
