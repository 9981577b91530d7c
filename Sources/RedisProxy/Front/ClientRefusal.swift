import NIOCore
import SocketIO

/// Tells a client that there are too many, and hangs up.
final class ClientRefusal: SocketHandler {
    var unread = UnreadBytes()

    static func tell(_ descriptor: CInt, _ eventLoop: SocketEventLoop) {
        // If it cannot be told, it is closed all the same.
        guard
            let connection = try? SocketConnection(
                descriptor: descriptor, eventLoop: eventLoop, allowsHalfClosure: false, handler: ClientRefusal())
        else { return }
        connection.writeAndFlush(ProxyReply.error("ERR max number of clients reached"))
        connection.closeAfterWrites()
    }

    func received(_ buffer: inout ByteBuffer) {}
    func inputClosed() {}
    func writabilityChanged(_ isWritable: Bool) {}
    func closed(_ error: (any Error)?) {}
}
