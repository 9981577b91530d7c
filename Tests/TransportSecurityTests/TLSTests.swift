import Foundation
import HotKeyTestSupport
import NIOCore
import NIOPosix
import Testing

@testable import TransportSecurity

/// A listener and clients over real sockets, with certificates made by openssl.
@Suite struct TLSTests {
    private static let names = TLSFiles.Names(certificate: "certFile", key: "keyFile", authority: "caFile")
    private let group = MultiThreadedEventLoopGroup.singleton

    private func files(_ identity: TestAuthority.Identity?, trust authority: TestAuthority?) -> TLSFiles {
        TLSFiles(
            certificate: identity?.certificate, key: identity?.key, authority: authority?.certificate, names: Self.names
        )
    }

    /// Echoes what it gets.
    private final class Echo: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            context.writeAndFlush(data, promise: nil)
        }
    }

    private final class Answer: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private var promise: EventLoopPromise<String>?
        init(_ promise: EventLoopPromise<String>) { self.promise = promise }
        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            promise?.succeed(String(buffer: unwrapInboundIn(data)))
            promise = nil
        }
        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            promise?.fail(error)
            promise = nil
            context.close(promise: nil)
        }
        func channelInactive(context: ChannelHandlerContext) {
            promise?.fail(TestSupportError(.connectionClosed, "closed"))
            promise = nil
        }
    }

    private func listen(_ server: TLSServer, handshakeMilliseconds: Int64 = 10_000) async throws -> any Channel {
        try await ServerBootstrap(group: group)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try server.secure(channel, handshakeMilliseconds: handshakeMilliseconds)
                    try channel.pipeline.syncOperations.addHandler(Echo())
                }
            }.bind(host: "127.0.0.1", port: 0).get()
    }

    /// Connects, waits for the handshake, and has a word echoed; throws what kept it from that.
    private func talk(_ client: TLSClient, to listener: any Channel, host: String = "127.0.0.1") async throws -> String
    {
        let loop = group.next()
        let answer = loop.makePromise(of: String.self)
        let handshake = loop.makePromise(of: Void.self)
        let channel = try await ClientBootstrap(group: loop)
            .channelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    try client.secure(channel, host: host, handshakeMilliseconds: 10_000).cascade(to: handshake)
                    try channel.pipeline.syncOperations.addHandler(Answer(answer))
                }
            }.connect(to: listener.localAddress!).get()
        do {
            try await handshake.futureResult.get()
        } catch {
            answer.fail(error)
            try? await channel.close()
            throw error
        }
        try? await channel.writeAndFlush(ByteBuffer(string: "word"))
        let word = try await answer.futureResult.get()
        try? await channel.close()
        return word
    }

    private func refusal(_ body: () async throws -> Void) async -> String {
        do {
            try await body()
            return "nothing was refused"
        } catch { return "\(error)" }
    }

    @Test func bothSidesAreWhoTheyHaveToBe() async throws {
        let (authority, stranger) = (try await TestAuthority(), try await TestAuthority())
        let server = try await authority.sign("server")
        let plain = try TLSServer(files(server, trust: nil), name: "listener")
        let listener = try await listen(plain)
        #expect(!plain.requiresClientCertificate)
        let client = try TLSClient(files(nil, trust: authority), serverName: nil, name: "client")
        #expect(try await talk(client, to: listener) == "word")
        #expect(try await talk(client, to: listener, host: "localhost") == "word")

        // Another name than the certificate's, dialled or expected.
        var message = await refusal { _ = try await talk(client, to: listener, host: "cache.example") }
        #expect(message.contains("its certificate is for another name"), "\(message)")
        let other = try TLSClient(files(nil, trust: authority), serverName: "cache.example", name: "client")
        message = await refusal { _ = try await talk(other, to: listener) }
        #expect(message.contains("its certificate is for another name"), "\(message)")
        let expected = try TLSClient(files(nil, trust: authority), serverName: "localhost", name: "client")
        #expect(try await talk(expected, to: listener, host: "10.1.2.3") == "word")

        // Another authority.
        let trusting = try TLSClient(files(nil, trust: stranger), serverName: nil, name: "client")
        message = await refusal { _ = try await talk(trusting, to: listener) }
        #expect(message.contains("is not signed by the given authority"), "\(message)")

        // Expired.
        let expired = try TLSServer(files(try await authority.sign("old", days: -1), trust: nil), name: "listener")
        let second = try await listen(expired)
        message = await refusal { _ = try await talk(client, to: second) }
        #expect(message.contains("or is not valid now"), "\(message)")
        for channel in [listener, second] { try await channel.close() }
    }

    @Test(arguments: [
        ("a.example", "a.example", true), ("A.Example.", "a.example", true), ("a.example", "*.example", false),
        ("a.b.example", "*.b.example", true), ("a.b.example", "*.B.example.", true),
        ("b.example", "*.b.example", false),
        ("x.a.b.example", "*.b.example", false), ("a.example", "b.example", false), ("localhost", "localhost", true),
        ("localhost", "*", false), ("", "a.example", false),
    ])
    func aNameIsMatchedByItselfOrByOneStar(expected: String, presented: String, isMatch: Bool) {
        #expect(ServerName.matches(expected, presented) == isMatch)
    }

    @Test func aListenerThatAsksForCertificatesTakesItsOwnAuthoritysOnly() async throws {
        let (authority, stranger) = (try await TestAuthority(), try await TestAuthority())
        let mutual = try TLSServer(files(try await authority.sign("server"), trust: authority), name: "listener")
        #expect(mutual.requiresClientCertificate)
        let listener = try await listen(mutual)
        func client(_ identity: TestAuthority.Identity?) throws -> TLSClient {
            try TLSClient(files(identity, trust: authority), serverName: nil, name: "client")
        }
        #expect(try await talk(client(authority.sign("client")), to: listener) == "word")
        for identity in [nil, try await stranger.sign("client"), try await authority.sign("late", days: -1)] {
            let message = await refusal { _ = try await talk(client(identity), to: listener) }
            #expect(message != "nothing was refused", "\(identity?.certificate ?? "no certificate")")
        }
        try await listener.close()
    }

    @Test func newFilesHoldForNewConnectionsAndBrokenOnesDoNot() async throws {
        let (authority, next) = (try await TestAuthority(), try await TestAuthority())
        let directory = try TemporaryDirectory(prefix: "hotkey-tls")
        func install(_ identity: TestAuthority.Identity, keyOf other: TestAuthority.Identity? = nil) throws {
            try directory.write(String(contentsOfFile: identity.certificate, encoding: .utf8), to: "cert.pem")
            try directory.writeSecret(String(contentsOfFile: (other ?? identity).key, encoding: .utf8), to: "key.pem")
        }
        try install(try await authority.sign("one"))
        let server = try TLSServer(
            TLSFiles(certificate: directory.file("cert.pem"), key: directory.file("key.pem"), names: Self.names),
            name: "listener")
        let listener = try await listen(server)
        let before = try TLSClient(files(nil, trust: authority), serverName: nil, name: "client")
        let after = try TLSClient(files(nil, trust: next), serverName: nil, name: "client")
        #expect(try await talk(before, to: listener) == "word")
        #expect(server.files.refresh() == .unchanged)

        // A key that is not the certificate's, as between the two writes of a renewal.
        let two = try await next.sign("two")
        try install(two, keyOf: try await next.sign("three"))
        guard case .refused(let problem) = server.files.refresh() else {
            Issue.record("a key that is not the certificate's was taken")
            return
        }
        #expect(problem.contains("certFile \(directory.file("cert.pem"))") && problem.contains("do not go together"))
        #expect(try await talk(before, to: listener) == "word")
        try directory.write("no certificate", to: "cert.pem")
        guard case .refused = server.files.refresh() else {
            Issue.record("a file without a certificate was taken")
            return
        }
        #expect(try await talk(before, to: listener) == "word")

        try install(two)
        #expect(server.files.refresh() == .renewed)
        #expect(try await talk(after, to: listener) == "word")
        #expect(await refusal { _ = try await talk(before, to: listener) }.contains("is not signed"))
        try await listener.close()
    }

    @Test func whoDoesNotEndTheHandshakeIsDisconnected() async throws {
        let authority = try await TestAuthority()
        let server = try TLSServer(files(try await authority.sign("server"), trust: nil), name: "listener")
        let listener = try await listen(server, handshakeMilliseconds: 200)
        let silent = try await RedisTestClient.connect(port: listener.localAddress!.port!)
        #expect(try await silent.receiveRaw().isEmpty)
        await silent.close()
        try await listener.close()
    }

    @Test func filesThatCannotServeAreNamed() async throws {
        let authority = try await TestAuthority()
        let identity = try await authority.sign("server")
        func message(_ files: TLSFiles) -> String {
            do {
                _ = try TLSServer(files, name: "listener")
                return ""
            } catch { return error.message }
        }
        #expect(
            message(TLSFiles(certificate: "/no/such", key: identity.key, names: Self.names)).hasPrefix(
                "certFile /no/such"))
        #expect(
            message(TLSFiles(certificate: identity.certificate, key: identity.certificate, names: Self.names))
                .contains("keyFile \(identity.certificate): it holds a secret"))
        let directory = try TemporaryDirectory(prefix: "hotkey-tls")
        let empty = try directory.writeSecret("", to: "empty")
        #expect(
            message(TLSFiles(certificate: identity.certificate, key: empty, names: Self.names))
                .contains("expected a key in PEM without a passphrase"))
        #expect(message(TLSFiles(certificate: identity.certificate, names: Self.names)).contains("expected both"))
        #expect(
            message(TLSFiles(certificate: identity.certificate, key: identity.key, authority: empty, names: Self.names))
                .contains("caFile \(empty): expected certificates in PEM"))
    }
}
