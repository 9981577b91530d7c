import NIOCore
import RESP

/// One command sent to several nodes, whose answers are wanted together. What it keeps of them is bounded: beyond
/// ``ProxyConfiguration/outputBytesMax`` it keeps none.
final class NodeGather {
    enum Answer {
        case reply(ByteBuffer)
        case failed(UpstreamFailure)
    }

    enum Way {
        /// The connections that clients share, so that the command comes behind what the client has sent to the same node.
        case shared
        /// A connection to each node for this command alone: it may take long, or finds the shared ones held up.
        case own(WaitLimit)
    }

    let nodes: [NodeState]
    private var answers: [Answer?]
    private var left: Int
    private var bytes = 0
    private(set) var isTooLarge = false
    private let loop: ProxyLoop
    private let then: (NodeGather) -> Void

    init(_ loop: ProxyLoop, _ nodes: [NodeState], then: @escaping (NodeGather) -> Void) {
        self.loop = loop
        self.nodes = nodes
        self.then = then
        answers = Array(repeating: nil, count: nodes.count)
        left = nodes.count
    }

    func send(_ command: UnsafeRawBufferPointer, _ way: Way, _ version: ProtocolVersion, client: UInt64) {
        for (index, node) in nodes.enumerated() {
            switch way {
            case .shared:
                let request = GatheredReply(self, index, wait: .none, connection: nil)
                if let failure = node.send(command, .request(request), version, client: client) {
                    take(.failed(failure), of: index)
                }
            case .own(let wait):
                let connection = node.takeBound(version, for: [])
                let request = GatheredReply(self, index, wait: wait, connection: connection)
                // Any command makes the connection's place in the replication stream the present one; `WAIT` counts from there.
                ping.withUnsafeReadableBytes {
                    _ = connection.send(
                        $0, PendingReply(target: .nobody, counter: 0, sentAt: loop.now, isProbe: false))
                }
                let entry = PendingReply(target: .request(request), counter: 0, sentAt: loop.now, isProbe: false)
                if !connection.send(command, entry) {
                    take(.failed(.overloaded(isAnswering: true)), of: index)
                    connection.close(.overloaded(isAnswering: true))
                }
            }
        }
    }

    fileprivate func take(_ answer: Answer, of index: Int) {
        answers[index] = answer
        if case .reply(let reply) = answer { bytes += reply.readableBytes }
        if bytes > loop.configuration.outputBytesMax {
            isTooLarge = true
            for index in answers.indices where answers[index] != nil { answers[index] = .reply(ByteBuffer()) }
            bytes = 0
        }
        left -= 1
        if left == 0 { then(self) }
    }

    /// The first that failed, in the order of the nodes.
    var failure: (node: ProxyNode, failure: UpstreamFailure)? {
        for (index, answer) in answers.enumerated() {
            if case .failed(let failure) = answer { return (nodes[index].node, failure) }
        }
        return nil
    }

    /// What the nodes answered; of those that failed nothing.
    var replies: [ByteBuffer] {
        answers.compactMap { if case .reply(let reply) = $0 { reply } else { nil } }
    }
}

private final class GatheredReply: UpstreamRequest {
    private let gather: NodeGather
    private let index: Int
    private let wait: WaitLimit
    private let connection: UpstreamConnection?

    init(_ gather: NodeGather, _ index: Int, wait: WaitLimit, connection: UpstreamConnection?) {
        self.gather = gather
        self.index = index
        self.wait = wait
        self.connection = connection
    }

    override func waitLimitNanoseconds(_ normal: UInt64) -> UInt64? { wait.nanoseconds(normal) }

    override func receive(_ reply: ReplyView, sentAt: UInt64) {
        let kept = reply.detached()
        if let connection { gather.nodes[index].giveBack(connection, isReusable: true) }
        gather.take(.reply(kept), of: index)
    }

    override func fail(_ failure: UpstreamFailure, _ node: ProxyNode) { gather.take(.failed(failure), of: index) }
}

private let ping = ByteBuffer(string: "*1\r\n$4\r\nPING\r\n")
