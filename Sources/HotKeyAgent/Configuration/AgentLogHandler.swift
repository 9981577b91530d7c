import Foundation
public import Logging
import StrictCoding

/// Writes log lines to standard error, one write a line: for people, or a JSON object each.
///
/// What a line repeats of the outside world (a key, a client's address) cannot begin a line of its own: control characters
/// are escaped in both formats.
public struct AgentLogHandler: LogHandler {
    public var logLevel: Logger.Level
    public var metadata: Logger.Metadata = [:]
    public var metadataProvider: Logger.MetadataProvider?
    private let label: String
    private let format: LogFormat
    private let write: @Sendable (String) -> Void

    /// - Parameter write: takes a whole line with its end; standard error unless a test says otherwise.
    public init(
        label: String, level: Logger.Level, format: LogFormat, metadataProvider: Logger.MetadataProvider? = nil,
        write: @escaping @Sendable (String) -> Void = { StandardError.write($0) }
    ) {
        self.label = label
        self.logLevel = level
        self.format = format
        self.metadataProvider = metadataProvider
        self.write = write
    }

    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    public func log(event: LogEvent) {
        var fields = metadata
        for more in [metadataProvider?.get(), event.metadata] {
            if let more { fields.merge(more) { $1 } }
        }
        if let error = event.error { fields["error"] = "\(error)" }
        let line = LogLine(
            time: Date().formatted(
                .iso8601.year().month().day().timeZone(separator: .omitted)
                    .time(includingFractionalSeconds: true)),
            level: event.level.rawValue, label: label, message: "\(event.message)",
            fields: fields.mapValues { "\($0)" })
        write(line.text(format))
    }
}

/// Where log lines, warnings and errors go.
public enum StandardError {
    /// One write, however long the text. What cannot be written is lost: there is nowhere to say so.
    public static func write(_ text: String) {
        try? FileHandle.standardError.write(contentsOf: Data(text.utf8))
    }
}

struct LogLine: Encodable {
    var time: String
    var level: String
    var label: String
    var message: String
    var fields: [String: String]

    func text(_ format: LogFormat) -> String {
        switch format {
        case .json:
            // Nothing but text in it: it cannot fail.
            let bytes = (try? StrictEncoder.encode(self)) ?? []
            return String(decoding: bytes, as: UTF8.self) + "\n"
        case .text:
            var text = "\(time) \(level) \(label): \(Self.message(message))"
            for (key, value) in fields.sorted(by: { $0.key < $1.key }) {
                let isWord = !value.isEmpty && !value.unicodeScalars.contains { $0 == " " || Self.escape($0) != nil }
                text += " \(Self.escaped(key))=" + (isWord ? value : "\"\(Self.escaped(value))\"")
            }
            return text + "\n"
        }
    }

    /// A message is a sentence: its quotes and backslashes stay as they are.
    private static func message(_ text: String) -> String {
        text.unicodeScalars.map { $0 == "\"" || $0 == "\\" ? String($0) : escape($0) ?? String($0) }.joined()
    }

    private static func escaped(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: { escape($0) != nil }) else { return text }
        return text.unicodeScalars.map { escape($0) ?? String($0) }.joined()
    }

    /// nil for what may stand as it is. Control characters may not, C1 included: a terminal obeys them.
    private static func escape(_ scalar: Unicode.Scalar) -> String? {
        switch scalar {
        case "\n": "\\n"
        case "\r": "\\r"
        case "\t": "\\t"
        case "\"", "\\": "\\\(scalar)"
        case _ where scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value):
            "\\u{\(String(scalar.value, radix: 16))}"
        default: nil
        }
    }
}
