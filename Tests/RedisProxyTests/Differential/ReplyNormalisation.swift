import RESP

/// Makes replies comparable that may differ between two equal servers. Everything that has no rule here is compared byte for
/// byte.
enum ReplyNormalisation {
    /// What is compared of a reply to `words`.
    static func comparable(_ reply: [UInt8], to words: [[UInt8]]) -> String {
        let name = name(of: words)
        guard let rule = rules[name], reply.first != UInt8(ascii: "-"),
            let value = try? RESPValue(decoding: reply)
        else { return shown(reply) }
        // A cursor is a place in a table, so one that does not stand for the beginning means another on each server.
        let cursor = name == "scan" ? 1 : 2
        if name.hasSuffix("scan"), words.count > cursor, words[cursor] != [UInt8(ascii: "0")] { return "scan" }
        return rule(value, reply.first.map { String(UnicodeScalar($0)) } ?? "")
    }

    static func shown(_ bytes: [UInt8]) -> String {
        var text = ""
        for byte in bytes {
            text += (0x20...0x7e).contains(byte) ? String(UnicodeScalar(byte)) : "\\x" + String(byte, radix: 16)
        }
        return text
    }

    static func name(of words: [[UInt8]]) -> String {
        let first = String(decoding: words[0], as: UTF8.self).lowercased()
        guard words.count > 1 else { return first }
        let both = "\(first)|\(String(decoding: words[1], as: UTF8.self).lowercased())"
        return CommandTable.redis70.commands.contains { $0.name == both } ? both : first
    }

    /// Acknowledgements of leaving everything: in the order of a table, so which name stands with which number is left out.
    static func withoutNames(_ acknowledgements: [[UInt8]]) -> [String] {
        var names: [String] = []
        let rest = acknowledgements.map { bytes -> String in
            guard case .array(var parts)? = try? RESPValue(decoding: [UInt8(ascii: "*")] + bytes.dropFirst()),
                parts.count == 3
            else { return shown(bytes) }
            names.append("\(parts[1])")
            parts.remove(at: 1)
            return shown(Array(bytes.prefix(1))) + "\(parts)"
        }
        return rest + names.sorted()
    }

    private typealias Rule = @Sendable (RESPValue, String) -> String

    private static let rules: [String: Rule] = {
        var rules: [String: Rule] = [:]
        func set(_ names: String, _ rule: @escaping Rule) {
            for name in names.split(separator: " ") { rules[String(name)] = rule }
        }
        // Redis keeps sets and large hashes in tables with a seed of the process's own.
        set("smembers sunion sinter sdiff keys hkeys hvals spop pubsub|channels pubsub|shardchannels") { value, type in
            type + sorted(elements(value)).joined(separator: ",")
        }
        set("hgetall config|get") { value, type in type + sorted(pairs(value)).joined(separator: ",") }
        set("scan sscan") { value, _ in scan(value, elements) }
        set("hscan zscan") { value, _ in scan(value, pairs) }
        set("command command|list command|info command|docs function|list acl|cat") { value, _ in unordered(value) }
        // Random members: how many, not which.
        set("randomkey srandmember hrandfield zrandmember acl|genpass") { value, type in
            if case .array(let values) = value { return "\(type)\(values.count)" }
            return kind(value)
        }
        // The clock, and what the process alone knows.
        set("time lastsave object|idletime object|freq memory|usage client|id lolwut slowlog|len") { value, type in
            type + kind(value)
        }
        set("info client|info client|list client|trackinginfo") { value, type in type + kind(value) }
        set("ttl expiretime") { value, _ in rounded(value, 100) }
        set("pttl pexpiretime") { value, _ in rounded(value, 100_000) }
        set("hello") { value, type in type + unordered(withoutTimes(value, ["id"])) }
        set("xinfo|stream xinfo|consumers xinfo|groups") { value, type in
            type + "\(withoutTimes(value, ["idle", "seen-time", "pending", "pel"]))"
        }
        // Each entry: id, consumer, idle time, deliveries.
        set("xpending") { value, type in
            guard case .array(let entries) = value else { return type + "\(value)" }
            let shown = entries.map { entry -> String in
                guard case .array(let parts) = entry, parts.count == 4, case .integer = parts[2] else {
                    return "\(entry)"
                }
                return "\(parts[0]) \(parts[1]) \(parts[3])"
            }
            return type + shown.joined(separator: ",")
        }
        // A table's order is in its dump.
        set("dump") { value, type in
            if case .bulk(let bytes) = value { return "\(type)\(bytes.count)" }
            return type + "\(value)"
        }
        return rules
    }()

    private static func elements(_ value: RESPValue) -> [String] {
        switch value {
        case .array(let values), .set(let values), .push(let values): values.map { "\($0)" }
        default: ["\(value)"]
        }
    }

    private static func pairs(_ value: RESPValue) -> [String] {
        switch value {
        case .map(let pairs): pairs.map { "\($0)" }
        case .array(let values):
            stride(from: 0, to: values.count, by: 2).map { "\(values[$0..<min($0 + 2, values.count)])" }
        default: ["\(value)"]
        }
    }

    private static func sorted(_ texts: [String]) -> [String] { texts.sorted() }

    private static func scan(_ value: RESPValue, _ parts: (RESPValue) -> [String]) -> String {
        guard case .array(let both) = value, both.count == 2 else { return "\(value)" }
        // Which part of a table comes first is its own matter.
        guard both[0] == .bulk("0") else { return "not the end" }
        return "\(both[0]) \(sorted(parts(both[1])))"
    }

    /// Without any order, at any depth.
    private static func unordered(_ value: RESPValue) -> String {
        switch value {
        case .array(let values), .set(let values), .push(let values):
            "[\(sorted(values.map(unordered)).joined(separator: ","))]"
        case .map(let pairs):
            "{\(sorted(pairs.map { unordered($0.key) + ":" + unordered($0.value) }).joined(separator: ","))}"
        default: "\(value)"
        }
    }

    private static func kind(_ value: RESPValue) -> String {
        switch value {
        case .integer: "integer"
        case .bulk: "bulk"
        case .verbatim(let format, _): format
        case .array(let values): "array of \(values.count)"
        case .null: "null"
        default: "\(value)"
        }
    }

    /// Two servers' clocks are read moments apart. Negative numbers are codes.
    private static func rounded(_ value: RESPValue, _ unit: Int64) -> String {
        guard case .integer(let number) = value, number > 0 else { return "\(value)" }
        return "\((number + unit / 2) / unit)"
    }

    /// Replaces what stands behind one of `names`, in maps and in the flat arrays that RESP2 has for them.
    private static func withoutTimes(_ value: RESPValue, _ names: Set<String>) -> RESPValue {
        switch value {
        case .map(let pairs):
            return .map(
                pairs.map { pair in
                    let isTime = pair.key.string.map(names.contains) ?? false
                    return .init(
                        pair.key, isTime ? masked(pair.value, pair.key.string) : withoutTimes(pair.value, names))
                })
        case .array(let values):
            return .array(
                values.enumerated().map { index, value in
                    let isTime = index > 0 && (values[index - 1].string.map(names.contains) ?? false)
                    return isTime ? masked(value, values[index - 1].string) : withoutTimes(value, names)
                })
        default: return value
        }
    }

    /// Numbers that count milliseconds become 0. What is pending is a number to be compared, or entries with times in them.
    private static func masked(_ value: RESPValue, _ name: String?) -> RESPValue {
        switch value {
        case .integer: name == "pending" || name == "pel" ? value : .integer(0)
        case .array(let values): .array(values.map { masked($0, nil) })
        default: value
        }
    }
}
