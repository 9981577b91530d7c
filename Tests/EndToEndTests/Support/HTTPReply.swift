import Foundation
import HotKeyTestSupport

/// What an HTTP server answered to one GET.
struct HTTPReply: Sendable, CustomStringConvertible {
    let status: Int
    /// By lower-case name.
    let headers: [String: String]
    let body: String

    var description: String { "\(status) \(body)" }

    static func get(_ path: String, port: Int) async throws -> HTTPReply {
        let client = try await RedisTestClient.connect(port: port)
        try await client.send(raw: "GET \(path) HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        let bytes = try await client.receiveRawToEnd()
        await client.close()
        let text = String(decoding: bytes, as: UTF8.self)
        guard let end = text.range(of: "\r\n\r\n") else {
            throw TestSupportError(.malformedReply, "not an HTTP reply: \(text)")
        }
        let lines = text[..<end.lowerBound].components(separatedBy: "\r\n")
        guard let status = lines[0].split(separator: " ").dropFirst().first.flatMap({ Int($0) }) else {
            throw TestSupportError(.malformedReply, "not a status line: \(lines[0])")
        }
        let headers = lines.dropFirst().map { line in
            let parts = line.split(separator: ":", maxSplits: 1)
            return (parts[0].lowercased(), parts.count > 1 ? parts[1].trimmingCharacters(in: .whitespaces) : "")
        }
        return HTTPReply(
            status: status, headers: Dictionary(headers) { first, _ in first }, body: String(text[end.upperBound...]))
    }
}
