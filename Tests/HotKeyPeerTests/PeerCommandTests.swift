import Foundation
import HotKeyPeer
import HotKeyTestSupport
import RESP
import Testing

/// The agent's own commands, against answers that are given byte by byte.
@Suite struct PeerCommandTests {
    private func withAnswer(
        _ answer: String, greeting: String = "", _ body: (PeerClient) async throws -> Void
    ) async throws {
        let server = try await CannedServer.start(answer: answer, inPiecesOf: 1, greeting: greeting)
        do {
            let client = try await PeerClient.connect(
                host: "127.0.0.1", port: server.port,
                configuration: PeerConfiguration(
                    connectTimeoutMilliseconds: 60_000, requestTimeoutMilliseconds: 60_000))
            try await body(client)
            await client.close()
        } catch {
            await server.stop()
            throw error
        }
        await server.stop()
    }

    private func bulk(_ text: String) -> String { "$\(text.utf8.count)\r\n\(text)\r\n" }

    @Test func reports() async throws {
        try await withAnswer("*3\r\n:-1\r\n:42\r\n*2\r\n$3\r\na\r\n\r\n$0\r\n\r\n") { client in
            let reply = try await client.reports(after: 7, blockMilliseconds: 50)
            #expect(reply.epoch == .max)
            #expect(reply.lastSequence == 42)
            #expect(reply.frames == [Array("a\r\n".utf8), []])
        }
    }

    @Test func route() async throws {
        let json =
            #"{"copies":[{"address":"127.0.0.1:2","name":"b"}],"home":{"address":"127.0.0.1:1","name":"a"},"isHot":true,"#
            + #""key":{"b64":"/w=="},"reading":"copies","readableCopies":[],"fromTheFuture":1}"#
        try await withAnswer(bulk(json)) { client in
            let route = try await client.route([0xff])
            #expect(route.key == PeerKey([0xff]))
            #expect(route.home == .init(name: "a", address: "127.0.0.1:1"))
            #expect(route.copies.count == 1 && route.readableCopies.isEmpty && route.isHot)
        }
    }

    @Test(arguments: ["+OK\r\n", ":1\r\n", "*2\r\n:1\r\n:2\r\n", "*3\r\n:1\r\n:2\r\n*1\r\n:3\r\n", "$2\r\n{}\r\n"])
    func anAnswerOfAnotherForm(answer: String) async throws {
        try await withAnswer(answer) { client in
            let error = await #expect(throws: PeerError.self) { _ = try await client.reports(after: 0) }
            #expect(error?.code == .malformedReply)
            let other = await #expect(throws: PeerError.self) { _ = try await client.list() }
            #expect(other?.code == .malformedReply)
            #expect(client.isConnected)
        }
    }

    @Test(arguments: ["HTTP/1.1 400 Bad Request\r\n\r\n", "$x\r\n", "*99999999999\r\n", "$-7\r\n"])
    func whatIsNotRESPEndsTheConnection(answer: String) async throws {
        try await withAnswer(answer) { client in
            let error = await #expect(throws: PeerError.self) { _ = try await client.status() }
            #expect(error?.code == .malformedReply)
            try await eventually("the connection is closed") { !client.isConnected }
        }
    }

    @Test func whatWasNotAskedForEndsTheConnection() async throws {
        try await withAnswer("", greeting: "+hello\r\n") { client in
            try await eventually("the connection is closed") { !client.isConnected }
        }
    }

    @Test func aBlockThatCannotBeIsRefusedUnsent() async throws {
        try await withAnswer("") { client in
            let error = await #expect(throws: PeerError.self) {
                _ = try await client.reports(
                    after: 0, blockMilliseconds: PeerLimits.blockMillisecondsRange.upperBound + 1)
            }
            #expect(error?.code == .badArgument)
        }
    }
}
