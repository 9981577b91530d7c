/// A document as a tree, each node with its place in the text: what both parsers produce and the decoder reads.
struct DocumentNode: Sendable {
    struct Position: Sendable, Hashable {
        var line: Int32
        var column: Int32
    }

    struct Field: Sendable {
        var name: String
        var position: Position
        var value: DocumentNode
    }

    enum Content: Sendable {
        case null
        case bool(Bool)
        /// The digits as written: converting them is up to the type that asks.
        case number(String)
        case string(String)
        case sequence([DocumentNode])
        case mapping(Mapping)
    }

    var content: Content
    var position: Position

    /// The value at the end of `steps`, or as far as the document goes.
    func descend(_ steps: some Sequence<FieldStep>) -> (node: DocumentNode, complete: Bool) {
        var node = self
        for step in steps {
            switch (step, node.content) {
            case (.field(let name), .mapping(let mapping)):
                guard let field = mapping[name] else { return (node, false) }
                node = field.value
            case (.index(let index), .sequence(let elements)):
                guard elements.indices.contains(index) else { return (node, false) }
                node = elements[index]
            default: return (node, false)
            }
        }
        return (node, true)
    }

    /// As an error names what it found. `field` is the name under which the value stands.
    func summary(field: String?) -> String {
        switch content {
        case .null: return "null"
        case .sequence: return "a list"
        case .mapping: return "a mapping"
        case .bool(let value): return Self.isSecret(field) ? "a boolean" : "\(value)"
        case .number(let text): return Self.isSecret(field) ? "a number" : Self.quoted(text)
        case .string(let text): return Self.isSecret(field) ? "a string" : "\"\(Self.quoted(text))\""
        }
    }

    private static func isSecret(_ field: String?) -> Bool {
        guard let field = field?.lowercased() else { return false }
        return ["password", "secret", "token", "credential", "auth"].contains { field.contains($0) }
    }

    static func quoted(_ text: String) -> String {
        let shown = text.prefix(StrictCodingLimits.quotedCharactersMax)
        let escaped = shown.unicodeScalars.map { $0.value < 0x20 ? "\\u{\(String($0.value, radix: 16))}" : "\($0)" }
        return escaped.joined() + (shown.endIndex == text.endIndex ? "" : "…")
    }
}

/// The fields of a mapping in the order of the document. Finds a field by scanning while there are few, by a table beyond.
struct Mapping: Sendable {
    private(set) var fields: [DocumentNode.Field] = []
    private var indices: [String: Int] = [:]
    private static let scannedFieldsMax = 16

    /// False, and nothing is added, when a field of that name is there already.
    mutating func append(_ field: DocumentNode.Field) -> Bool {
        if fields.count < Self.scannedFieldsMax {
            if fields.contains(where: { $0.name == field.name }) { return false }
        } else {
            if indices.isEmpty {
                for (index, known) in fields.enumerated() { indices[known.name] = index }
            }
            if indices.updateValue(fields.count, forKey: field.name) != nil { return false }
        }
        fields.append(field)
        return true
    }

    subscript(name: String) -> DocumentNode.Field? {
        if indices.isEmpty { return fields.first { $0.name == name } }
        return indices[name].map { fields[$0] }
    }
}
