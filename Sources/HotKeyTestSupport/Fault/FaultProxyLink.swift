import Glibc
import NIOCore

/// One connection through a ``FaultProxy``: two channels on one event loop and a queue for each direction.
final class FaultProxyLink {
    private enum Content {
        case bytes(ByteBuffer)
        /// FIN
        case end
        /// RST
        case reset
    }

    /// What is on its way in one direction.
    private struct Queue {
        var entries: CircularBuffer<(due: NIODeadline, content: Content)> = []
        /// Read from one side and not yet taken by the other side's socket.
        var heldBytes = 0
        var lastDue = NIODeadline.uptimeNanoseconds(0)
        var timer: Scheduled<Void>?
        var isReadOutstanding = false
        var sourceHasEnded = false
        var endIsForwarded = false
    }

    private let client: any Channel
    private var server: (any Channel)?
    private var isConnected = false
    private var hasEnded = false
    private var conditions: FaultProxy.Conditions
    private var queues: [FaultProxy.Direction: Queue] = [.clientToServer: Queue(), .serverToClient: Queue()]
    private let loop: any EventLoop
    /// How the client began, so that a connection can be told by what it is for.
    private var beginning: [UInt8] = []
    private var silenced: Set<FaultProxy.Direction> = []
    var onEnd: (() -> Void)?

    init(client: any Channel, conditions: FaultProxy.Conditions) {
        self.client = client
        self.conditions = conditions
        loop = client.eventLoop
    }

    func attachClient() throws {
        try client.pipeline.syncOperations.addHandler(Side(link: self, direction: .clientToServer))
    }

    func attachServer(_ channel: any Channel) throws {
        server = channel
        try channel.pipeline.syncOperations.addHandler(Side(link: self, direction: .serverToClient))
    }

    func serverIsConnected() {
        guard !hasEnded else {
            // Cut while the connection was being made.
            if let server { close(server, withReset: true) }
            return
        }
        isConnected = true
        pumpAll()
    }

    func apply(_ conditions: FaultProxy.Conditions) {
        self.conditions = conditions
        silenced = []
        pumpAll()
    }

    func hasSent(_ text: String) -> Bool { String(decoding: beginning, as: UTF8.self).contains(text) }

    func silence(_ directions: Set<FaultProxy.Direction>) { silenced = directions }

    /// RST to both sides.
    func reset() { end(withReset: true) }

    // MARK: From the channels

    fileprivate func received(_ bytes: ByteBuffer, _ direction: FaultProxy.Direction) {
        if direction == .clientToServer, beginning.count < TestSupportLimits.proxyRememberedBytesMax {
            beginning += bytes.readableBytesView
        }
        queues[direction]!.heldBytes += bytes.readableBytes
        enqueue(.bytes(bytes), direction)
    }

    fileprivate func readCompleted(_ direction: FaultProxy.Direction) {
        queues[direction]!.isReadOutstanding = false
        pump(direction)
    }

    /// The end of a stream waits its turn like bytes: a network that hangs does not let a reset through either.
    fileprivate func sourceEnded(_ direction: FaultProxy.Direction, withReset: Bool) {
        guard !queues[direction]!.sourceHasEnded || withReset else { return }
        queues[direction]!.sourceHasEnded = true
        enqueue(withReset ? .reset : .end, direction)
        pump(direction)
    }

    // MARK: Forwarding

    private func enqueue(_ content: Content, _ direction: FaultProxy.Direction) {
        // A shorter delay than before must not let bytes overtake earlier ones.
        let due = max(queues[direction]!.lastDue, NIODeadline.now() + conditions.delay)
        queues[direction]!.lastDue = due
        queues[direction]!.entries.append((due, content))
    }

    private func pumpAll() {
        pump(.clientToServer)
        pump(.serverToClient)
    }

    private func pump(_ direction: FaultProxy.Direction) {
        guard isConnected, !hasEnded, let server else { return }
        guard !conditions.stalled.contains(direction), !silenced.contains(direction) else { return }
        let (source, target) = direction == .clientToServer ? (client, server) : (server, client)
        let now = NIODeadline.now()
        var wrote = false
        while let first = queues[direction]!.entries.first, first.due <= now || conditions.delay == .zero {
            queues[direction]!.entries.removeFirst()
            let link = NIOLoopBound(self, eventLoop: loop)
            switch first.content {
            case .bytes(let bytes):
                wrote = true
                let count = bytes.readableBytes
                target.write(bytes).whenComplete { _ in link.value.written(count, direction) }
            case .end:
                target.flush()
                target.close(mode: .output).whenComplete { _ in link.value.endWasForwarded(direction) }
            case .reset:
                return end(withReset: true)
            }
        }
        if wrote { target.flush() }
        guard !hasEnded else { return }
        if let first = queues[direction]!.entries.first, queues[direction]!.timer == nil {
            let link = NIOLoopBound(self, eventLoop: loop)
            queues[direction]!.timer = loop.scheduleTask(deadline: first.due) {
                link.value.queues[direction]!.timer = nil
                link.value.pump(direction)
            }
        }
        if !queues[direction]!.isReadOutstanding, !queues[direction]!.sourceHasEnded,
            queues[direction]!.heldBytes < TestSupportLimits.proxyBufferedBytesMax
        {
            queues[direction]!.isReadOutstanding = true
            source.read()
        }
    }

    private func written(_ count: Int, _ direction: FaultProxy.Direction) {
        queues[direction]!.heldBytes -= count
        pump(direction)
    }

    /// Called once everything before the end is in the target's socket.
    private func endWasForwarded(_ direction: FaultProxy.Direction) {
        queues[direction]!.endIsForwarded = true
        if queues[.clientToServer]!.endIsForwarded, queues[.serverToClient]!.endIsForwarded { end(withReset: false) }
    }

    private func end(withReset: Bool) {
        guard !hasEnded else { return }
        hasEnded = true
        for direction in [FaultProxy.Direction.clientToServer, .serverToClient] {
            queues[direction]!.timer?.cancel()
            queues[direction]!.entries.removeAll()
        }
        close(client, withReset: withReset)
        if let server { close(server, withReset: withReset) }
        onEnd?()
        onEnd = nil
    }

    private func close(_ channel: any Channel, withReset: Bool) {
        if withReset, let options = channel as? any SocketOptionProvider {
            // Lingering for no time is what makes the kernel send RST; the option is set at once, we are on the loop.
            options.setSoLinger(linger(l_onoff: 1, l_linger: 0)).whenComplete { _ in channel.close(promise: nil) }
        } else {
            channel.close(promise: nil)
        }
    }

    /// Stands in one channel and tells the link what comes from there.
    private final class Side: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let link: FaultProxyLink
        private let direction: FaultProxy.Direction

        init(link: FaultProxyLink, direction: FaultProxy.Direction) {
            self.link = link
            self.direction = direction
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            link.received(unwrapInboundIn(data), direction)
        }

        func channelReadComplete(context: ChannelHandlerContext) {
            link.readCompleted(direction)
        }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            if case .inputClosed? = event as? ChannelEvent {
                link.sourceEnded(direction, withReset: false)
            } else {
                context.fireUserInboundEventTriggered(event)
            }
        }

        func channelInactive(context: ChannelHandlerContext) {
            // Without an error this is the orderly end of a side whose other direction had ended before: SwiftNIO then
            // closes the channel at once and sends no `inputClosed`.
            link.sourceEnded(direction, withReset: false)
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            link.sourceEnded(direction, withReset: true)
        }
    }
}
