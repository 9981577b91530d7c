import RESP

/// Where the fields of a CSV stand, as its first line says: `time` (seconds) and `key` are needed; `op`, `count`, `bytes` and
/// `misses` may be there, in any order. A column without a name is passed over.
///
/// Fields are those of RFC 4180, but for line breaks: a line is a request. Keys are bytes, whatever their encoding.
struct CSVColumns: Sendable, Hashable {
    private enum Column: String, CaseIterable {
        case time, key, op, count, bytes, misses
    }
    private var places: [Column: Int] = [:]
    private let columnCount: Int

    private static let known = Column.allCases.map(\.rawValue).joined(separator: ", ")

    init(head: ArraySlice<UInt8>) throws(TraceError) {
        let names = try Self.fields(head)
        columnCount = names.count
        for (place, bytes) in names.enumerated() where !bytes.isEmpty {
            let name = String(decoding: bytes, as: UTF8.self).lowercased()
            guard let column = Column(rawValue: name) else {
                throw TraceError(expected: "the name of a column (\(Self.known)) or nothing", found: bytes)
            }
            guard places.updateValue(place, forKey: column) == nil else {
                throw TraceError(expected: "each column once", found: bytes)
            }
        }
        for column in [Column.time, .key] where places[column] == nil {
            throw TraceError(expected: "a column \"\(column.rawValue)\" in the first line", found: head)
        }
    }

    func read(_ line: ArraySlice<UInt8>) throws(TraceError) -> TraceLine {
        let fields = try Self.fields(line)
        guard fields.count == columnCount else {
            throw TraceError(expected: "\(columnCount) fields as in the first line", found: "\(fields.count)")
        }
        func field(_ column: Column) -> [UInt8]? {
            places[column].map { fields[$0] }.flatMap { $0.isEmpty ? nil : $0 }
        }
        let time = fields[places[.time]!]
        guard let nanoseconds = TraceTime.nanoseconds(time[...]) else {
            throw TraceError(expected: "time: seconds such as 12.5 or 1700000000.123456", found: time)
        }
        let count = try field(.count).map { bytes throws(TraceError) in
            try Self.number(bytes, "count", max: UInt64(SimulationLimits.countMax))
        }
        let replyBytes = try field(.bytes).map { bytes throws(TraceError) in
            try Self.number(bytes, "bytes", max: UInt64(Int32.max))
        }
        var access = try Self.access(
            field(.op) ?? Self.readWord, key: fields[places[.key]!], count: UInt32(count ?? 1),
            replyBytes: Int(replyBytes ?? 0))
        if let misses = field(.misses) {
            access.misses = UInt32(try Self.number(misses, "misses", max: UInt64(access.reads)))
        }
        return .request(TraceRequest(nanoseconds: nanoseconds, accesses: [access]))
    }

    private static let readWord = Array("read".utf8)

    private static func access(
        _ operation: [UInt8], key: [UInt8], count: UInt32, replyBytes: Int
    ) throws(TraceError) -> TraceRequest.Access {
        switch String(decoding: operation, as: UTF8.self).lowercased() {
        case "read": return TraceRequest.Access(key: key, reads: count, replyBytes: replyBytes)
        case "write":
            return TraceRequest.Access(
                key: key, reads: 0, writes: count, replyBytes: replyBytes, isRepeatable: false, isCopyRead: false)
        default:
            guard let spec = TraceCommand.find(operation), !spec.keySpecifications.isEmpty else {
                throw TraceError(
                    expected: "op: read, write or the name of a Redis command with a key", found: operation)
            }
            return TraceCommand.access(spec, key: key, count: count, replyBytes: replyBytes)
        }
    }

    private static func number(_ text: [UInt8], _ name: String, max: UInt64) throws(TraceError) -> UInt64 {
        guard text.count <= 10, text.allSatisfy(TraceTime.isDigit) else {
            throw TraceError(expected: "\(name): a whole number up to \(max)", found: text)
        }
        let value = text.reduce(UInt64(0)) { $0 * 10 + UInt64($1 - UInt8(ascii: "0")) }
        guard value <= max else { throw TraceError(expected: "\(name): a whole number up to \(max)", found: text) }
        return value
    }

    private static let quote = UInt8(ascii: "\"")

    private static func fields(_ line: ArraySlice<UInt8>) throws(TraceError) -> [[UInt8]] {
        var fields: [[UInt8]] = []
        var index = line.startIndex
        while true {
            guard fields.count < SimulationLimits.columnsMax else {
                throw TraceError(expected: "at most \(SimulationLimits.columnsMax) columns", found: "more")
            }
            var field: [UInt8] = []
            if index < line.endIndex, line[index] == quote {
                index += 1
                while true {
                    guard index < line.endIndex else {
                        throw TraceError(expected: "a quote that closes the field on its line", found: line)
                    }
                    let byte = line[index]
                    index += 1
                    if byte != quote {
                        field.append(byte)
                    } else if index < line.endIndex, line[index] == quote {
                        field.append(quote)
                        index += 1
                    } else {
                        break
                    }
                }
                guard index == line.endIndex || line[index] == UInt8(ascii: ",") else {
                    throw TraceError(expected: "a comma behind a closing quote", found: line[index...])
                }
            } else {
                while index < line.endIndex, line[index] != UInt8(ascii: ",") {
                    field.append(line[index])
                    index += 1
                }
            }
            fields.append(field)
            guard index < line.endIndex else { return fields }
            index += 1
        }
    }
}
