import Foundation
import RESP

/// The agent's own commands. Beside what ``PeerClient/command(_:timeoutMilliseconds:)`` throws: ``PeerError/Code/refused``
/// when the agent answers with an error, ``PeerError/Code/malformedReply`` when the answer is of another form.
extension PeerClient {
    /// `HK.STATUS`
    public func status() async throws -> AgentStatus { try await document("HK.STATUS") }

    /// `HK.LIST`
    public func list() async throws -> KeyList { try await document("HK.LIST") }

    /// `HK.GET`
    public func get(_ key: [UInt8]) async throws -> KeyStatus { try await document("HK.GET", key) }

    /// `HK.ROUTE`
    public func route(_ key: [UInt8]) async throws -> RouteStatus { try await document("HK.ROUTE", key) }

    /// `HK.TOP`
    /// - Parameter count: within ``PeerLimits/topKeysRange``.
    public func top(_ count: Int) async throws -> LiveStatus { try await document("HK.TOP", Array("\(count)".utf8)) }

    /// `HK.HEAT`
    public func heat(of key: [UInt8]) async throws -> LiveStatus { try await document("HK.HEAT", key) }

    /// `HK.REPORTS`
    /// - Parameters:
    ///   - after: the last sequence number that is known, 0 for all that the agent keeps.
    ///   - blockMilliseconds: how long the agent may wait for a newer frame before it answers without one. The request's
    ///     timeout is counted from there.
    public func reports(after: UInt64, blockMilliseconds: Int = 0) async throws -> ReportsReply {
        let range = PeerLimits.blockMillisecondsRange
        guard range.contains(blockMilliseconds) else {
            throw PeerError(
                .badArgument, address: "\(address)",
                "HK.REPORTS: BLOCK must be \(range.lowerBound) to \(range.upperBound) ms, not \(blockMilliseconds)")
        }
        var arguments = ["HK.REPORTS", "\(after)"]
        if blockMilliseconds > 0 { arguments += ["BLOCK", "\(blockMilliseconds)"] }
        let reply = try await answer(
            arguments.map { Array($0.utf8) }, timeoutMilliseconds: timeoutMilliseconds(blocking: blockMilliseconds))
        // RESP's integers are signed; the agent sends the same 64 bits.
        guard case .array(let parts) = reply, parts.count == 3, case .integer(let epoch) = parts[0],
            case .integer(let last) = parts[1], case .array(let items) = parts[2]
        else { throw malformed("HK.REPORTS", "expected an epoch, a sequence number and frames") }
        let frames = try items.map { item in
            guard case .bulk(let bytes) = item else { throw malformed("HK.REPORTS", "a frame is not a bulk string") }
            return bytes
        }
        return ReportsReply(
            epoch: UInt64(bitPattern: epoch), lastSequence: UInt64(bitPattern: last), frames: frames)
    }

    private func document<Document: Decodable>(_ name: String, _ arguments: [UInt8]...) async throws -> Document {
        guard case .bulk(let bytes) = try await answer([Array(name.utf8)] + arguments) else {
            throw malformed(name, "expected JSON in a bulk string")
        }
        do {
            // Fields that this version does not know are passed over: agents may be newer than what asks them.
            return try JSONDecoder().decode(Document.self, from: Data(bytes))
        } catch {
            throw malformed(name, "\(error)")
        }
    }

    private func answer(_ arguments: [[UInt8]], timeoutMilliseconds: Int? = nil) async throws -> RESPValue {
        let reply = try await command(arguments, timeoutMilliseconds: timeoutMilliseconds)
        guard case .error(let text) = reply else { return reply }
        let name = String(decoding: arguments[0], as: UTF8.self)
        if text.hasPrefix("NOAUTH") {
            throw PeerError(
                .notAdmitted, address: "\(address)",
                "the agent asks for a password and none was given for its peer listener")
        }
        let quoted = String(decoding: text.utf8.prefix(PeerLimits.quotedBytesMax), as: UTF8.self)
        throw PeerError(.refused, address: "\(address)", "\(name) was answered with: \(quoted)")
    }

    private func malformed(_ name: String, _ detail: String) -> PeerError {
        PeerError(.malformedReply, address: "\(address)", "the answer to \(name) is not understood: \(detail)")
    }
}
