import HotKeyMitigation
import NIOCore
import RESP

/// One command on its way through a Redis Cluster: its bytes are kept until its reply has come, because the node may answer that
/// another is to be asked.
///
/// Whoever sent it gets exactly one reply or failure, as from a node alone.
final class ClusterRequest: UpstreamRequest {
    /// Who sent it, kept until it is answered.
    private enum Sender {
        case client(FrontSession, UInt32)
        case request(UpstreamRequest)
        case nobody

        init(_ target: PendingReply.Target) {
            switch target {
            case .client(let session, let slot): self = .client(session.object, slot)
            case .request(let request): self = .request(request)
            case .nobody: self = .nobody
            }
        }
    }

    private enum Refused {
        case reply(ByteBuffer, sentAt: UInt64)
        case failure(UpstreamFailure, ProxyNode)
    }

    private let loop: ProxyLoop
    private let sender: Sender
    private let version: ProtocolVersion
    private let client: UInt64
    private let counter: UInt64
    private let command: [UInt8]
    /// Its place among the commands of this loop.
    let number: UInt64
    private let startedAt: UInt64
    private var resends: ClientResends?
    private(set) var dueAt: UInt64 = 0
    private var timesResent = 0
    private var target = ClusterState.Target.home
    private var node: NodeState?
    private var refused: Refused?
    /// Looked at only when something goes another way than usual.
    private lazy var keys = CommandKeys(command)

    init(
        loop: ProxyLoop, for target: PendingReply.Target, version: ProtocolVersion, client: UInt64, counter: UInt64,
        command: [UInt8], number: UInt64
    ) {
        self.loop = loop
        sender = Sender(target)
        self.version = version
        self.client = client
        self.counter = counter
        self.command = command
        self.number = number
        startedAt = loop.now
        super.init()
        if let asker, asker.resends == nil { asker.resends = ClientResends(loop: loop) }
        resends = asker?.resends
    }

    var keptBytes: Int { command.count }
    private var isFollower: Bool { loop.cluster != nil && !loop.isShutDown }

    /// As ``NodeState/send(_:_:_:client:counter:)``.
    func start(to node: NodeState) -> UpstreamFailure? {
        resends?.sent(self)
        if let failure = refusalWithoutMap {
            if comesBack(.failure(failure, node.node), .elsewhereUnknown, .home) { return nil }
            resends?.ended(self, slot: nil)
            return failure
        }
        guard let failure = transmit(to: node) else { return nil }
        if case .down = failure, comesBack(.failure(failure, node.node), .notSent, .home) { return nil }
        resends?.ended(self, slot: nil)
        return failure
    }

    private var refusalWithoutMap: UpstreamFailure? {
        loop.cluster?.hasMap == false && keys.slot != nil ? .notServing(ClusterState.slotsAreUnknown) : nil
    }

    private func transmit(to node: NodeState) -> UpstreamFailure? {
        self.node = node
        var isAsking = false
        if case .node(_, let asks) = target { isAsking = asks }
        return command.withUnsafeBytes {
            node.transmit($0, .request(self), version, client: client, isAsking: isAsking)
        }
    }

    // MARK: Coming back

    override var asker: FrontSession? {
        switch sender {
        case .client(let session, _): session
        case .request(let request): request.asker
        case .nobody: nil
        }
    }

    override var isHousekeeping: Bool {
        if case .request(let request) = sender { request.isHousekeeping } else { false }
    }

    override var streamPlace: (session: FrontSession, slot: UInt32)? {
        switch sender {
        case .client(let session, let slot): (session, slot)
        case .request(let request): request.streamPlace
        case .nobody: nil
        }
    }

    override func receive(_ reply: ReplyView, sentAt: UInt64) {
        guard reply.bytes[0] == UInt8(ascii: "-"), let redirection = Redirection(reply.bytes), isFollower,
            // A script may answer anything.
            let slot = keys.slot, redirection.slot ?? slot == slot, let cluster = loop.cluster, let node
        else {
            resends?.ended(self) { self.keys.slot }
            deliver(reply, sentAt)
            resends?.proceed()
            return
        }
        let (refusal, target) = cluster.note(redirection, from: node)
        let refused = Refused.reply(reply.detached(), sentAt: sentAt)
        guard !comesBack(refused, refusal, target) else { return }
        resends?.ended(self, slot: nil)
        let last = refusal == .elsewhere ? self.refused ?? refused : refused
        // It has another answer for a home that serves nobody.
        if case .request(let request) = sender, redirection == .clusterDown, request.hasFallback {
            request.fail(.notServing(reply.errorText), node.node)
        } else {
            giveUp(last)
        }
        resends?.proceed()
    }

    override func fail(_ failure: UpstreamFailure, _ node: ProxyNode) {
        let refusal: ResendDecision.Refusal =
            switch failure {
            case .cannotConnect, .down: .notSent
            case .connectionLost: .lost
            default: .other
            }
        if failure.meansUnreachable, isFollower { loop.cluster?.noteTrouble(node) }
        guard !comesBack(.failure(failure, node), refusal, .home) else { return }
        resends?.ended(self) { refusal == .notSent ? nil : self.keys.slot }
        giveUp(.failure(failure, node))
        resends?.proceed()
    }

    /// Decides whether it is sent again, and sees to that.
    private func comesBack(
        _ refused: Refused, _ refusal: ResendDecision.Refusal, _ target: ClusterState.Target
    ) -> Bool {
        guard isFollower, keys.slot != nil else { return false }
        if case .request(let request) = sender, refusal != .elsewhere, request.hasFallback { return false }
        if refusal == .notSent, case .failure(let failure, let node) = refused {
            if case .down = failure { loop.cluster?.noteTrouble(node) }
            guard loop.cluster?.mayFailOver(node) == true else { return false }
        }
        let budget = UInt64(loop.configuration.requestTimeoutMilliseconds) * 1_000_000
        let decision = ResendDecision(
            refusal, isRead: keys.isRead, resends: timesResent, elapsed: loop.now - startedAt, budget: budget)
        guard case .resend(let pause) = decision else { return false }
        timesResent += 1
        loop.statistics.clusterResends &+= 1
        dueAt = loop.now + pause
        // A command that is sent to and fro between two nodes is refused for what keeps it from both.
        if self.refused == nil || refusal != .elsewhere { self.refused = refused }
        self.target = target
        if let resends {
            holdClient()
            resends.wait(self, slot: keys.slot, isRead: keys.isRead, target)
            resends.proceed()
        } else {
            loop.later(pause) { self.sendAgain() }
        }
        return true
    }

    private func holdClient() {
        asker?.holdBehindReplies()
    }

    // MARK: Going out again

    func sendAgain() {
        guard !loop.isShutDown else { return }
        guard let cluster = loop.cluster, let node = cluster.node(for: target, slot: keys.slot) else {
            resends?.ended(self, slot: nil)
            return overtaken()
        }
        let unknown = refusalWithoutMap
        guard let failure = unknown ?? transmit(to: node) else { return }
        if unknown != nil {
            if comesBack(.failure(failure, node.node), .elsewhereUnknown, .home) { return }
        } else if case .down = failure, comesBack(.failure(failure, node.node), .notSent, .home) {
            return
        }
        resends?.ended(self, slot: nil)
        giveUp(.failure(failure, node.node))
    }

    /// It is not sent again.
    func overtaken() {
        if let refused { giveUp(refused) }
    }

    // MARK: The end

    private func deliver(_ reply: ReplyView, _ sentAt: UInt64) {
        if counter != 0 { loop.count(reply, counter, isMiss: reply.isNull) }
        // What became hot after the command had left: a change of the hot set waits for what is on its way to the keys' homes, and
        // this one may have been on none while it did.
        guard timesResent > 0, keys.mayWrite else { return pass(reply, sentAt) }
        var written = WrittenKeys()
        for key in keys.keys { written.insert(key) }
        let hot = loop.hotKeys(among: written)
        guard !hot.isEmpty else { return pass(reply, sentAt) }
        let held = reply.detached()
        loop.invalidateEverywhere(hot) { self.pass(held, sentAt) }
    }

    private func giveUp(_ refused: Refused) {
        switch refused {
        case .reply(let reply, let sentAt): pass(reply, sentAt)
        case .failure(let failure, let node):
            switch sender {
            case .client(let session, let slot): session.complete(slot, ProxyReply.error(failure.text(node)))
            case .request(let request): request.fail(failure, node)
            case .nobody: break
            }
        }
    }

    private func pass(_ reply: ByteBuffer, _ sentAt: UInt64) {
        withUnsafePointer(to: reply) { whole in
            reply.withUnsafeReadableBytes {
                pass(ReplyView(buffer: whole, start: reply.readerIndex, length: $0.count, bytes: $0), sentAt)
            }
        }
    }

    private func pass(_ reply: ReplyView, _ sentAt: UInt64) {
        switch sender {
        case .client(let session, let slot): session.complete(slot, reply)
        case .request(let request): request.receive(reply, sentAt: sentAt)
        case .nobody: break
        }
    }
}

/// What a command says of itself.
struct CommandKeys {
    /// nil when it names no key.
    private(set) var slot: Int?
    private(set) var isRead = false
    private(set) var mayWrite = false
    private(set) var keys: [[UInt8]] = []

    init(_ command: [UInt8]) {
        var parser = CommandParser()
        command.withUnsafeBytes { bytes in
            guard case .command? = try? parser.parse(bytes) else { return }
            let arguments = parser.arguments
            func argument(_ index: Int) -> UnsafeRawBufferPointer {
                UnsafeRawBufferPointer(rebasing: bytes[arguments[index].offset...].prefix(arguments[index].length))
            }
            let table = CommandTable.redis70
            guard var spec = table.find(argument(0)) else { return }
            if spec.hasSubcommands, arguments.count > 1, let sub = table.find(spec, subcommand: argument(1)) {
                spec = sub
            }
            isRead = spec.flags.contains(.readonly)
            mayWrite = spec.mayWrite
            var positions: [Int] = []
            guard KeyPositions.append(of: spec, argumentCount: arguments.count, to: &positions, argument: argument)
            else { return }
            keys = positions.map { Array(argument($0)) }
            slot = positions.first.map { ClusterSlot.of(argument($0)) }
        }
    }
}

/// The driver of ``ResendOrder``: one client's commands that are out in a Redis Cluster.
final class ClientResends {
    private let loop: ProxyLoop
    private var order = ResendOrder<ClusterState.Target>()
    private var waiting: [UInt64: ClusterRequest] = [:]
    private var keptBytes = 0
    private var isBusy = false

    init(loop: ProxyLoop) {
        self.loop = loop
    }

    /// Whether no more of the client's commands should be read.
    var isFull: Bool { keptBytes > RedisProxyLimits.resendBytesMax }

    func sent(_ request: ClusterRequest) {
        keptBytes += request.keptBytes
        order.sent()
    }

    func ended(_ request: ClusterRequest, slot: (() -> Int?)?) {
        keptBytes -= request.keptBytes
        order.ended(request.number) { slot?() }
    }

    func wait(_ request: ClusterRequest, slot: Int?, isRead: Bool, _ target: ClusterState.Target) {
        waiting[request.number] = request
        order.wait(.init(number: request.number, slot: slot, isRead: isRead, target: target))
    }

    /// Sends again what waits once everything has come back and its pause is over.
    func proceed() {
        guard order.isReady, !isBusy else { return }
        let due = waiting.values.map(\.dueAt).max() ?? 0
        isBusy = true
        if due > loop.now {
            loop.later(due - loop.now) { self.sendAgain() }
        } else {
            sendAgain()
        }
    }

    private func sendAgain() {
        guard !loop.isShutDown else { return waiting = [:] }
        let (resent, overtaken) = order.round()
        for command in overtaken {
            guard let request = waiting.removeValue(forKey: command.number) else { continue }
            keptBytes -= request.keptBytes
            request.overtaken()
        }
        // All are out before the first may come back, which it does at once when its node's breaker is open.
        let requests = resent.compactMap { waiting.removeValue(forKey: $0.number) }
        for _ in requests { order.sent() }
        for request in requests { request.sendAgain() }
        isBusy = false
        proceed()
    }
}

extension ProxyLoop {
    /// Runs `body` on this loop after so many nanoseconds.
    func later(_ nanoseconds: UInt64, _ body: @escaping () -> Void) {
        eventLoop.assumeIsolated().scheduleTask(in: .nanoseconds(Int64(nanoseconds))) {
            self.updateNow()
            body()
        }
    }
}
