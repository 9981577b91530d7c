import RESP

/// The elements of an array, set or push message at the top of a reply, found without decoding them.
enum ReplyElements {
    /// `nil` when the reply is no array, set or push message.
    static func split(_ reply: UnsafeRawBufferPointer) -> [UnsafeRawBufferPointer]? {
        guard let type = reply.first, "*~>".utf8.contains(type),
            let lineEnd = reply.firstIndex(of: UInt8(ascii: "\r"))
        else { return nil }
        var elements: [UnsafeRawBufferPointer] = []
        var start = lineEnd + 2
        while start < reply.count {
            var scanner = ReplyScanner()
            let rest = UnsafeRawBufferPointer(rebasing: reply[start...])
            guard let length = try? scanner.scan(rest) else { return nil }
            elements.append(UnsafeRawBufferPointer(rebasing: rest[..<length]))
            start += length
        }
        return elements
    }

    /// What a bulk string holds; `nil` for another type and for null.
    static func bulk(_ value: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer? {
        guard value.first == UInt8(ascii: "$"), value.count > 1, value[1] != UInt8(ascii: "-"),
            let lineEnd = value.firstIndex(of: UInt8(ascii: "\r")), lineEnd + 4 <= value.count
        else { return nil }
        return UnsafeRawBufferPointer(rebasing: value[(lineEnd + 2)..<(value.count - 2)])
    }

    static func integer(_ value: UnsafeRawBufferPointer) -> Int64? {
        guard value.first == UInt8(ascii: ":"), value.count > 3 else { return nil }
        return Int64(String(decoding: value[1..<(value.count - 2)], as: UTF8.self))
    }
}
