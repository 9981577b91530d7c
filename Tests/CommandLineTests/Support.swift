import Foundation
import HotKeyTestSupport

/// One ZooKeeper for all tests of this process; every test works under a root of its own.
enum SharedZooKeeper {
    private static let start = Task { try await ZooKeeperServer.start() }
    static var server: ZooKeeperServer { get async throws { try await start.value } }
}

/// The built `hkctl` with an app's registry to work on.
struct HKCtl: Sendable {
    let zookeeper: String
    let root: String
    var environment: [String: String]

    /// Of a fresh root; nothing is initialised.
    init(app: String? = "shop") async throws {
        zookeeper = try await SharedZooKeeper.server.connectString
        root = "/cli-\(UInt64.random(in: .min ... .max))"
        environment = [
            "HOTKEY_ZOOKEEPER": zookeeper, "HOTKEY_ROOT": root, "HOTKEY_AUTHOR": "ann", "COLUMNS": "200",
        ]
        if let app { environment["HOTKEY_APP"] = app }
    }

    /// With two nodes that nobody listens on.
    static func initialised() async throws -> HKCtl {
        let hkctl = try await HKCtl()
        try await hkctl.done("init", "--nodes", "a=127.0.0.1:7001,b=127.0.0.1:7002:2", "--hash-tag", "{}")
        return hkctl
    }

    static func binary() throws -> String { try BinaryLocator.path("hkctl") }

    func run(_ arguments: [String], input: String? = nil) async throws -> SpawnedProcess.Outcome {
        try await SpawnedProcess.run(
            Self.binary(), arguments, environment: environment, standardInput: input.map { Array($0.utf8) })
    }

    func run(_ arguments: String..., input: String? = nil) async throws -> SpawnedProcess.Outcome {
        try await run(arguments, input: input)
    }

    /// Runs a verb that has to succeed, silently on standard error, and returns what it printed.
    @discardableResult
    func done(_ arguments: String..., input: String? = nil) async throws -> String {
        let outcome = try await run(arguments, input: input)
        guard outcome.status == 0, outcome.standardError.isEmpty else {
            throw Unexpected("hkctl \(arguments.joined(separator: " ")): \(outcome)")
        }
        return outcome.standardOutput
    }

    func json(_ arguments: String...) async throws -> JSON {
        let outcome = try await run(arguments + ["--output", "json"])
        guard outcome.status == 0 else {
            throw Unexpected("hkctl \(arguments.joined(separator: " ")): \(outcome)")
        }
        return try JSON(outcome.standardOutput)
    }

    func start(_ arguments: String...) async throws -> SpawnedProcess {
        try await SpawnedProcess.start(Self.binary(), arguments, environment: environment)
    }
}

struct Unexpected: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// JSON as it was printed.
enum JSON: Sendable, Equatable, Decodable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByBooleanLiteral
{
    case object([String: JSON])
    case array([JSON])
    case string(String)
    case number(Double)
    case bool(Bool)
    case null

    init(_ text: String) throws { self = try JSONDecoder().decode(JSON.self, from: Data(text.utf8)) }

    init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([JSON].self) {
            self = .array(value)
        } else if let value = try? container.decode([String: JSON].self) {
            self = .object(value)
        } else {
            self = .null
        }
    }

    init(stringLiteral value: String) { self = .string(value) }
    init(integerLiteral value: Int) { self = .number(Double(value)) }
    init(booleanLiteral value: Bool) { self = .bool(value) }

    subscript(field: String) -> JSON? { if case .object(let fields) = self { fields[field] } else { nil } }
    subscript(index: Int) -> JSON? {
        if case .array(let items) = self, items.indices.contains(index) { items[index] } else { nil }
    }
    var items: [JSON] { if case .array(let items) = self { items } else { [] } }
    var fields: [String] { if case .object(let fields) = self { fields.keys.sorted() } else { [] } }
    var text: String? { if case .string(let text) = self { text } else { nil } }
}
