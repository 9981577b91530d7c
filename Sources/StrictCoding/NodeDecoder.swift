/// The way from the document to a value, as a list that shares its beginning with its neighbours': a path is only
/// spelled out when something is wrong.
final class DecodingPath: Sendable {
    let parent: DecodingPath?
    let step: FieldStep

    init(_ parent: DecodingPath?, _ step: FieldStep) {
        self.parent = parent
        self.step = step
    }

    static func steps(_ path: DecodingPath?) -> [FieldStep] {
        var steps: [FieldStep] = []
        var path = path
        while let current = path {
            steps.append(current.step)
            path = current.parent
        }
        return steps.reversed()
    }
}

struct AnyStep: CodingKey {
    let stringValue: String
    let intValue: Int?

    init(_ step: FieldStep) {
        switch step {
        case .field(let name): (stringValue, intValue) = (name, nil)
        case .index(let index): (stringValue, intValue) = ("\(index)", index)
        }
    }
    init?(stringValue: String) { self.init(.field(stringValue)) }
    init?(intValue: Int) { self.init(.index(intValue)) }
}

/// `Decoder` over one node. The containers are in NodeContainers.swift.
struct NodeDecoder: Decoder {
    let node: DocumentNode
    let path: DecodingPath?
    let source: String

    var codingPath: [any CodingKey] { DecodingPath.steps(path).map(AnyStep.init) }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
        guard case .mapping(let mapping) = node.content else { throw mismatch("a mapping") }
        for field in mapping.fields where Key(stringValue: field.name) == nil {
            throw unknown(field, keys: type)
        }
        return KeyedDecodingContainer(NodeKeyedContainer(decoder: self, mapping: mapping))
    }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
        guard case .sequence(let elements) = node.content else { throw mismatch("a list") }
        return NodeUnkeyedContainer(decoder: self, elements: elements)
    }

    func singleValueContainer() throws -> any SingleValueDecodingContainer { self }

    func descend(_ node: DocumentNode, _ step: FieldStep) -> NodeDecoder {
        NodeDecoder(node: node, path: DecodingPath(path, step), source: source)
    }

    /// Decodes and validates; every error that leaves knows its place.
    func decodeValue<Value: Decodable>(_ type: Value.Type) throws -> Value {
        do {
            let value = try Value(from: self)
            if let validating = value as? any Validating { try validating.validate() }
            return value
        } catch let error as DocumentError {
            throw error
        } catch {
            throw translate(error)
        }
    }
}

// MARK: - Errors

extension NodeDecoder {
    private var fieldName: String? {
        var path = path
        while let current = path {
            if case .field(let name) = current.step { return name }
            path = current.parent
        }
        return nil
    }

    func mismatch(_ expected: String, code: DocumentError.Code = .wrongType) -> DocumentError {
        DocumentError(
            code, source: source, line: Int(node.position.line), column: Int(node.position.column),
            path: FieldPath.text(DecodingPath.steps(path)), expected: expected,
            found: node.summary(field: fieldName))
    }

    func missing(_ name: String) -> DocumentError {
        DocumentError(
            .missingField, source: source, line: Int(node.position.line), column: Int(node.position.column),
            path: FieldPath.text(DecodingPath.steps(path) + [.field(name)]), expected: "this field", found: "none")
    }

    private func unknown<Key: CodingKey>(_ field: DocumentNode.Field, keys: Key.Type) -> DocumentError {
        var expected = "a known field"
        if let type = keys as? any CaseIterable.Type {
            let names = Self.names(type)
            expected = "one of the fields \(names.joined(separator: ", "))"
            if let nearest = EditDistance.nearest(to: field.name, among: names) {
                expected += " (did you mean \(nearest)?)"
            }
        }
        return DocumentError(
            .unknownField, source: source, line: Int(field.position.line), column: Int(field.position.column),
            path: FieldPath.text(DecodingPath.steps(path) + [.field(DocumentNode.quoted(field.name))]),
            expected: expected, found: "an unknown field")
    }

    private static func names<Keys: CaseIterable>(_ type: Keys.Type) -> [String] {
        type.allCases.compactMap { ($0 as? any CodingKey)?.stringValue }
    }

    /// Gives an error from a type's own code its place in the document.
    func translate(_ error: any Error) -> DocumentError {
        switch error {
        case let error as DocumentError: return error
        case let problem as FieldProblem:
            let (place, complete) = node.descend(problem.path)
            let name = problem.path.reversed().lazy.compactMap { step -> String? in
                if case .field(let name) = step { name } else { nil }
            }.first
            return DocumentError(
                .invalidValue, source: source, line: Int(place.position.line), column: Int(place.position.column),
                path: FieldPath.text(DecodingPath.steps(path) + problem.path), expected: problem.expected,
                found: problem.found ?? (complete ? place.summary(field: name ?? fieldName) : "none"))
        case DecodingError.dataCorrupted(let context), DecodingError.typeMismatch(_, let context),
            DecodingError.valueNotFound(_, let context), DecodingError.keyNotFound(_, let context):
            // Synthesised code of raw-value enums ends here.
            return mismatch("another value (\(context.debugDescription))", code: .invalidValue)
        default: return mismatch("another value (\(error))", code: .invalidValue)
        }
    }
}

enum EditDistance {
    /// The candidate that takes the fewest insertions, deletions and replacements, at most two or a third of the word's length.
    static func nearest(to word: String, among candidates: [String]) -> String? {
        guard word.count <= StrictCodingLimits.quotedCharactersMax else { return nil }
        let ranked = candidates.map { (name: $0, distance: distance(Array(word.lowercased()), Array($0.lowercased()))) }
        guard let best = ranked.min(by: { $0.distance < $1.distance }) else { return nil }
        return best.distance <= max(2, word.count / 3) ? best.name : nil
    }

    private static func distance(_ left: [Character], _ right: [Character]) -> Int {
        var row = Array(0...right.count)
        for (i, character) in left.enumerated() {
            var diagonal = row[0]
            row[0] = i + 1
            for (j, other) in right.enumerated() {
                let replaced = diagonal + (character == other ? 0 : 1)
                diagonal = row[j + 1]
                row[j + 1] = min(replaced, row[j] + 1, row[j + 1] + 1)
            }
        }
        return row[right.count]
    }
}
