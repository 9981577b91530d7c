import Foundation
import Yams

/// YAML text to a ``DocumentNode``. Only what a configuration file needs: no anchors, aliases, tags or several documents.
///
/// Plain scalars follow YAML 1.2's core schema: `true` and `false` are booleans, `off`, `yes` and `on` are strings, so
/// that `mode: off` means what it says.
enum YAMLParser {
    static func parse(_ text: String, source: String) throws(DocumentError) -> DocumentNode {
        do {
            // libyaml itself stops at 1,000 levels, which bounds the recursion while composing.
            let parser = try Yams.Parser(yaml: text, resolver: .basic)
            guard let root = try parser.singleRoot() else {
                return DocumentNode(content: .null, position: .init(line: 1, column: 1))
            }
            // Nodes refer to their anchors weakly; the parser owns them.
            return try withExtendedLifetime(parser) { try convert(root, source: source, depth: 0) }
        } catch let error as DocumentError {
            throw error
        } catch let error as YamlError {
            throw failure(error, source: source, text: text)
        } catch {
            throw DocumentError(.syntax, source: source, expected: "YAML", found: "\(error)")
        }
    }

    private static func convert(_ node: Yams.Node, source: String, depth: Int) throws -> DocumentNode {
        let position = position(node.mark)
        func refuse(_ code: DocumentError.Code, _ expected: String, _ found: String) -> DocumentError {
            DocumentError(
                code, source: source, line: Int(position.line), column: Int(position.column), expected: expected,
                found: found)
        }
        guard depth <= StrictCodingLimits.nestingMax else {
            throw refuse(.tooLarge, "at most \(StrictCodingLimits.nestingMax) levels of nesting", "more")
        }
        guard node.anchor == nil else { throw refuse(.syntax, "a value without an anchor", "an anchor or alias") }
        switch node {
        case .alias: throw refuse(.syntax, "a value", "an alias")
        case .scalar(let scalar):
            let isPlain = scalar.style == .plain
            let plainTags: [Tag.Name] = [.implicit, .nonSpecific, .str]
            guard plainTags.contains(where: { $0.rawValue == scalar.tag.description }) else {
                throw refuse(.syntax, "a value without a tag", "the tag \(scalar.tag)")
            }
            return DocumentNode(content: isPlain ? plain(scalar.string) : .string(scalar.string), position: position)
        case .sequence(let sequence):
            return DocumentNode(
                content: .sequence(try sequence.map { try convert($0, source: source, depth: depth + 1) }),
                position: position)
        case .mapping(let pairs):
            var mapping = Mapping()
            for (key, value) in pairs {
                guard case .scalar(let name) = key, key.anchor == nil else {
                    throw refuse(.syntax, "field names that are plain text", "another kind of key")
                }
                let field = DocumentNode.Field(
                    name: name.string, position: Self.position(key.mark),
                    value: try convert(value, source: source, depth: depth + 1))
                guard mapping.append(field) else {
                    throw DocumentError(
                        .duplicateField, source: source, line: Int(field.position.line),
                        column: Int(field.position.column), expected: "each field once",
                        found: "\"\(DocumentNode.quoted(name.string))\" again")
                }
            }
            return DocumentNode(content: .mapping(mapping), position: position)
        }
    }

    private static func position(_ mark: Mark?) -> DocumentNode.Position {
        .init(line: Int32(truncatingIfNeeded: mark?.line ?? 1), column: Int32(truncatingIfNeeded: mark?.column ?? 1))
    }

    private static func plain(_ text: String) -> DocumentNode.Content {
        switch text {
        case "", "~", "null", "Null", "NULL": return .null
        case "true", "True", "TRUE": return .bool(true)
        case "false", "False", "FALSE": return .bool(false)
        default: return isNumber(text) ? .number(text) : .string(text)
        }
    }

    /// Decimal only: an address such as `10.0.0.1:6379` or a version such as `1.2.3` stays a string.
    private static func isNumber(_ text: String) -> Bool {
        var rest = Substring(text).utf8
        func digits(_ rest: inout Substring.UTF8View) -> Bool {
            let count = rest.prefix { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }.count
            rest = rest.dropFirst(count)
            return count > 0
        }
        if rest.first == UInt8(ascii: "-") || rest.first == UInt8(ascii: "+") { rest = rest.dropFirst() }
        guard digits(&rest) else { return false }
        if rest.first == UInt8(ascii: ".") {
            rest = rest.dropFirst()
            guard digits(&rest) else { return false }
        }
        if rest.first == UInt8(ascii: "e") || rest.first == UInt8(ascii: "E") {
            rest = rest.dropFirst()
            if rest.first == UInt8(ascii: "-") || rest.first == UInt8(ascii: "+") { rest = rest.dropFirst() }
            guard digits(&rest) else { return false }
        }
        return rest.isEmpty
    }

    /// Where a field stands for the second time: Yams only says where it stands first.
    ///
    /// In block style the fields of one mapping begin in one column, and nothing else does before the mapping ends, except
    /// lines of a quoted text. Where the field is not found so (as in flow style, `{a: 1, a: 2}`): its first place.
    private static func secondField(
        _ name: String, after mark: Mark, in text: String
    ) -> (line: Int, column: Int) {
        let spellings = [name, "\"\(name)\"", "'\(name)'"].map { Array($0.utf8) }
        let lines = text.utf8.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: false)
        var found = 0
        for (number, line) in zip(1..., lines).dropFirst(mark.line - 1) {
            // The first field may follow the dash of a list on its line.
            let isFirst = number == mark.line
            let indent = line.prefix(mark.column - 1)
            guard indent.count == mark.column - 1, isFirst || indent.allSatisfy({ $0 == UInt8(ascii: " ") }) else {
                continue
            }
            let field = line.dropFirst(mark.column - 1)
            let isNamed = spellings.contains { spelling in
                field.starts(with: spelling)
                    && field.dropFirst(spelling.count).drop { $0 == UInt8(ascii: " ") }.first == UInt8(ascii: ":")
            }
            if isNamed { found += 1 }
            if found == 2 { return (number, mark.column) }
        }
        return (mark.line, mark.column)
    }

    private static func failure(_ error: YamlError, source: String, text: String) -> DocumentError {
        func at(_ mark: Mark, _ context: YamlError.Context?, _ problem: String) -> DocumentError {
            DocumentError(
                .syntax, source: source, line: mark.line, column: mark.column, expected: "YAML",
                found: context.map { "\($0.text): \(problem)" } ?? problem)
        }
        switch error {
        case .scanner(let context, let problem, let mark, _), .parser(let context, let problem, let mark, _),
            .composer(let context, let problem, let mark, _):
            return at(mark, context, problem)
        case .duplicatedKeysInMapping(let names, let context):
            // The context's text is the whole document, not worth repeating.
            let name = names.first ?? ""
            let place = secondField(name, after: context.mark, in: text)
            return DocumentError(
                .duplicateField, source: source, line: place.line, column: place.column,
                expected: "each field once", found: "\"\(DocumentNode.quoted(name))\" again")
        case .reader(let problem, _, _, _):
            return DocumentError(.syntax, source: source, expected: "YAML", found: problem)
        default:
            return DocumentError(.syntax, source: source, expected: "YAML", found: "something else")
        }
    }
}
