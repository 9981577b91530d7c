import Logging

/// What the layers below want an operator to know, on standard error. Connection trouble is not among it: a verb that
/// fails for it says so itself.
struct WarningLog: LogHandler {
    var logLevel = Logger.Level.warning
    var metadata: Logger.Metadata = [:]

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        var fields = metadata
        if let more = event.metadata { fields.merge(more) { $1 } }
        let details = fields.sorted { $0.key < $1.key }.map { "\($0.key): \($0.value)" }
        let text = "\(event.message)" + (details.isEmpty ? "" : " (\(details.joined(separator: ", ")))")
        Console.complain("Warning: \(DisplayText.escaped(text))")
    }

    static let registry = Logger(label: "hkctl") { _ in WarningLog() }
    static let silent = Logger(label: "hkctl.zookeeper") { _ in SwiftLogNoOpLogHandler() }
}
