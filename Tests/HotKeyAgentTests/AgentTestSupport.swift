import Foundation
import HotKeyRegistry
import HotKeyRules
import HotKeyTestSupport

@testable import HotKeyAgent

/// An arbitrary time that pins, records and their expiry are told from.
let noon = Timestamp("2026-11-22T12:00:00Z")!

/// What is known of a registry with these documents.
func registry(
    mode: ControlDocument.Mode = .mitigate, detection: ControlDocument.Detection = .embedded,
    stalenessCapMilliseconds: Int = 5_000, pins: [PinEntry] = [],
    denies: [PinEntry] = [], hot: [HotRecord] = []
) -> RegistrySnapshot {
    var snapshot = RegistrySnapshot.none
    snapshot.control = ControlDocument(
        mode: mode, detection: detection, stalenessCapMilliseconds: stalenessCapMilliseconds)
    snapshot.pins = PinsDocument(pins: pins, denies: denies)
    snapshot.hot = HotRecords(hot)
    return snapshot
}

func pin(_ key: KeyName, copies: Int? = nil, expiresAt: Timestamp? = nil) -> PinEntry {
    PinEntry(key: key, copies: copies, author: "ann", reason: "launch", at: noon, expiresAt: expiresAt)
}

func record(
    _ key: KeyName, _ state: HotState = .hot, _ kind: HotKind = .read, copies: Int? = nil, since: Timestamp = noon
) -> HotRecord {
    HotRecord(
        key: key, state: state, kind: kind, readsPerSecond: 5_000, copies: copies, sources: ["agents"], since: since)
}

/// A book of one rule for every key.
func book(_ change: (inout Rule) -> Void = { _ in }) throws -> RuleBook {
    var rule = Rule(pattern: "*")
    change(&rule)
    return try RuleBook(RulesDocument(rules: [rule]))
}

extension TemporaryDirectory {
    /// A file with one line that only its owner may read.
    func secret(_ line: String, to name: String = "secret") throws -> String {
        let path = try write(line + "\n", to: name)
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
        return path
    }
}
