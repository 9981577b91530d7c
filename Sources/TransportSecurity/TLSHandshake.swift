import NIOCore
import NIOSSL
import NIOTLS

/// Watches over a handshake: bounds its time, tells how it ended, and goes.
final class TLSHandshake: ChannelInboundHandler, RemovableChannelHandler {
    typealias InboundIn = ByteBuffer

    private let milliseconds: Int64
    private let closesOnFailure: Bool
    /// The name that the server's certificate has to have; nil: any, or an address, which NIOSSL compares.
    private let expectedName: String?
    private var done: EventLoopPromise<Void>?
    private var timer: Scheduled<Void>?
    private var hasEnded = false

    init(
        milliseconds: Int64, closesOnFailure: Bool, expectedName: String? = nil, done: EventLoopPromise<Void>?
    ) {
        self.milliseconds = milliseconds
        self.expectedName = expectedName
        self.closesOnFailure = closesOnFailure
        self.done = done
    }

    func handlerAdded(context: ChannelHandlerContext) {
        timer = context.eventLoop.assumeIsolated().scheduleTask(in: .milliseconds(milliseconds)) { [self] in
            end(context, .init(.handshakeTimedOut, "the TLS handshake took more than \(milliseconds) ms"))
        }
    }

    func handlerRemoved(context: ChannelHandlerContext) {
        end(context, .init(.handshakeFailed, "the connection was closed during the TLS handshake"))
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .handshakeCompleted? = event as? TLSUserEvent { end(context, wrongName(context)) }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        let text = TLSFailure.describe(error) ?? "the connection broke during the TLS handshake: \(error)"
        end(context, .init(.handshakeFailed, text))
        context.fireErrorCaught(error)
    }

    func channelInactive(context: ChannelHandlerContext) {
        end(context, .init(.handshakeFailed, "the connection was closed during the TLS handshake"))
        context.fireChannelInactive()
    }

    /// NIOSSL is content when the certificate is for the address that was dialled, whatever name is expected. Then whoever can
    /// answer for a name could send clients to another server of the same authority.
    private func wrongName(_ context: ChannelHandlerContext) -> TransportSecurityError? {
        guard let expectedName else { return nil }
        let handler = try? context.pipeline.syncOperations.handler(type: NIOSSLClientHandler.self)
        guard let names = handler?.peerCertificate?._subjectAlternativeNames(), !names.isEmpty else { return nil }
        let isNamed = names.contains { name in
            name.nameType == .dnsName
                && name.contents.withUnsafeBufferPointer {
                    ServerName.matches(expectedName, String(decoding: $0, as: UTF8.self))
                }
        }
        return isNamed
            ? nil : .init(.handshakeFailed, "its certificate is for another name than \(expectedName)")
    }

    private func end(_ context: ChannelHandlerContext, _ failure: TransportSecurityError?) {
        guard !hasEnded else { return }
        hasEnded = true
        timer?.cancel()
        timer = nil
        let done = self.done.take()
        if let failure {
            done?.fail(failure)
            if closesOnFailure { context.close(promise: nil) }
        } else {
            done?.succeed()
            context.pipeline.syncOperations.removeHandler(self, promise: nil)
        }
    }
}

/// RFC 6125, section 6.4: without regard to case; a star stands for the first label alone.
enum ServerName {
    static func matches(_ expected: String, _ presented: String) -> Bool {
        let expected = labels(expected)
        let presented = labels(presented)
        guard presented.first == "*", presented.count > 2 else { return presented == expected }
        return expected.count == presented.count && expected.dropFirst() == presented.dropFirst()
    }

    private static func labels(_ name: String) -> [Substring] {
        name.lowercased().split(separator: ".", omittingEmptySubsequences: false).reversed().drop { $0.isEmpty }
            .reversed()
    }
}

/// What went wrong in TLS, in words that say what to look at.
public enum TLSFailure {
    /// nil: the error is none of TLS.
    public static func describe(_ error: any Error) -> String? {
        switch error {
        case let error as NIOSSLExtraError: return text(error)
        case let error as NIOSSLError: return text(error)
        case let error as BoringSSLError: return text(error)
        default: return nil
        }
    }

    static func text(_ error: any Error) -> String {
        let raw = "\(error)"
        if let error = error as? NIOSSLExtraError, error == .failedToValidateHostname {
            return "its certificate is for another name or address than the one that is expected"
        }
        // BoringSSL's names of what happened.
        let meanings = [
            ("CERTIFICATE_VERIFY_FAILED", "its certificate is not signed by the given authority, or is not valid now"),
            ("EOF during handshake", "it closed the connection during the TLS handshake"),
            ("WRONG_VERSION_NUMBER", "it does not speak TLS"),
            ("UNSUPPORTED_PROTOCOL", "it speaks no TLS version from 1.2 on"),
            ("PROTOCOL_VERSION", "it speaks no TLS version from 1.2 on"),
            ("CERTIFICATE_REQUIRED", "it wants a client certificate and was shown none"),
            ("ALERT_UNKNOWN_CA", "it does not know the authority of the certificate that it was shown"),
            ("ALERT_BAD_CERTIFICATE", "it does not accept the certificate that it was shown"),
            ("ALERT_CERTIFICATE_EXPIRED", "the certificate that it was shown has expired"),
            ("ALERT_HANDSHAKE_FAILURE", "it refuses the handshake; it may want a client certificate"),
        ]
        let meaning = meanings.first { raw.contains($0.0) }?.1
        return meaning.map { "\($0) (\(raw.prefix(300)))" } ?? "TLS failed: \(raw.prefix(300))"
    }
}

extension Optional {
    fileprivate mutating func take() -> Wrapped? {
        defer { self = nil }
        return self
    }
}
