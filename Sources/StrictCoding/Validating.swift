/// A type that checks itself once its fields have been decoded.
///
/// ``StrictDecoder`` calls ``validate()`` on every value of such a type, however deep it stands in the document, and turns
/// a thrown ``FieldProblem`` into a ``DocumentError`` with the line and the full path of the field.
public protocol Validating {
    /// Throws ``FieldProblem`` when the fields, each of the right type, make no sense.
    func validate() throws
}

/// One step from a value to a field inside it: a name or a position.
public enum FieldStep: Sendable, Hashable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral {
    case field(String)
    case index(Int)

    public init(stringLiteral value: String) { self = .field(value) }
    public init(integerLiteral value: Int) { self = .index(value) }
}

/// What is wrong with a field, relative to the value that says so. Thrown by ``Validating/validate()`` and by hand-written
/// `init(from:)`.
public struct FieldProblem: Error, Sendable, Hashable, CustomStringConvertible {
    public var path: [FieldStep]
    /// Completes "expected …".
    public var expected: String
    /// Completes "found …"; nil to show the value that stands in the document.
    public var found: String?

    public init(at path: [FieldStep] = [], expected: String, found: String? = nil) {
        self.path = path
        self.expected = expected
        self.found = found
    }

    public var description: String {
        let place = FieldPath.text(path)
        let text = place.isEmpty ? "expected \(expected)" : "\(place): expected \(expected)"
        return found.map { "\(text), found \($0)" } ?? text
    }
}

extension Validating {
    /// Throws a ``FieldProblem`` at `path` unless `condition` holds.
    public func require(
        _ condition: Bool, _ path: FieldStep..., expected: @autoclosure () -> String,
        found: @autoclosure () -> String? = nil
    ) throws {
        guard condition else { throw FieldProblem(at: path, expected: expected(), found: found()) }
    }

    /// Throws a ``FieldProblem`` at `path` unless `value` lies in `range`.
    public func require<Value: Comparable>(_ value: Value, in range: ClosedRange<Value>, _ path: FieldStep...) throws {
        guard range.contains(value) else {
            throw FieldProblem(
                at: path, expected: "a number from \(range.lowerBound) to \(range.upperBound)", found: "\(value)")
        }
    }
}

enum FieldPath {
    /// As `rules[2].copies`.
    static func text(_ steps: [FieldStep]) -> String {
        var text = ""
        for step in steps {
            switch step {
            case .index(let index): text += "[\(index)]"
            case .field(let name): text += text.isEmpty ? name : ".\(name)"
            }
        }
        return text
    }
}
