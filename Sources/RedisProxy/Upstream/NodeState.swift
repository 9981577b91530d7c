import HotKeyMitigation
import Logging
import NIOCore
import RESP

/// One cache node as one event loop knows it: its connections, its breaker, its load, its clock.
final class NodeState {
    let node: ProxyNode
    /// Its connections say `READONLY`: it is asked for what a replica of a Redis Cluster holds.
    let isReplica: Bool
    /// A cycle, broken by ``ProxyLoop/shutDown()``.
    let loop: ProxyLoop
    private(set) var load = NodeLoad()
    /// The node's clock, for the expiry times of copies on it.
    private(set) var lease = CopyLease()
    /// When the node may last have lost what this agent wrote to it: its copies are not read for a lifetime after that.
    private(set) var copiesQuarantinedAt: UInt64?
    private var clockSampledAt: UInt64 = 0
    private var isSamplingClock = false
    private var breaker: CircuitBreaker
    /// The connections that clients share: a place for each lane of RESP2, then for each of RESP3.
    private var shared: [UpstreamConnection?] {
        didSet { borrowedShared = shared.map { $0.map(Borrowed.init) } }
    }
    /// ``shared``, which keeps them.
    private var borrowedShared: [Borrowed<UpstreamConnection>?]
    /// Connections that were shared, have a large reply under way and end after what was asked of them.
    private var retired: [UpstreamConnection] = []
    /// Connections that clients have for themselves, with the keys that a blocking command or a transaction is for; `nil` where there
    /// is only this node.
    var dedicated: [ObjectIdentifier: (connection: UpstreamConnection, keys: [[UInt8]]?)] = [:]
    /// When a snapshot took it away.
    var leavingAt: UInt64 = 0
    /// Connections that clients have given back.
    var idle: [UpstreamConnection] = []
    /// Ticks in which something waited for this node and nothing came from it.
    private var silentTicks = 0
    private(set) var statistics: NodeStatistics
    /// Why the node does not take this agent's connections, if it does not.
    var refusal: String?

    init(node: ProxyNode, loop: ProxyLoop, isReplica: Bool = false) {
        self.node = node
        self.isReplica = isReplica
        self.loop = loop
        self.breaker = CircuitBreaker(configuration: loop.configuration.breaker)
        self.statistics = NodeStatistics(node: node)
        self.shared = Array(repeating: nil, count: 2 * loop.configuration.connectionsPerNode)
        self.borrowedShared = Array(repeating: nil, count: shared.count)
    }

    /// Whether a read that has a choice should come here.
    var isUsable: Bool {
        if case .closed = breaker.state { return true }
        return false
    }

    var isOpenBySlowness: Bool { breaker.isOpenBySlowness }

    var breakerState: NodeStatistics.Breaker {
        switch breaker.state {
        case .closed: .closed
        case .open: .open
        case .halfOpen: .halfOpen
        }
    }

    /// Sends one command for a client whose reply it passes on unchanged. `nil` when it was sent.
    @inline(__always)
    func forward(
        _ command: UnsafeRawBufferPointer, to session: FrontSession, _ slot: UInt32, counter: UInt64
    ) -> UpstreamFailure? {
        send(command, .client(Borrowed(session), slot), session.version, client: session.id, counter: counter)
    }

    /// Sends one command. When it returns a failure, nothing was sent and `target` will not be completed.
    ///
    /// - Parameter client: whose command it is. All commands of a client take the same connection, or a later one could overtake
    ///   an earlier one on another.
    @inline(__always)
    func send(
        _ command: UnsafeRawBufferPointer, _ target: PendingReply.Target, _ version: ProtocolVersion,
        client: UInt64 = 0, counter: UInt64 = 0
    ) -> UpstreamFailure? {
        if loop.cluster != nil { return loop.cluster!.send(command, target, version, client, counter, to: self) }
        return transmit(command, target, version, client: client, counter: counter)
    }

    /// As ``send(_:_:_:client:counter:)``; before a Redis Cluster the reply may be a redirection.
    ///
    /// - Parameter isAsking: whether the command goes to a node that its slot is being moved to (`ASKING`).
    @inline(__always)
    func transmit(
        _ command: UnsafeRawBufferPointer, _ target: PendingReply.Target, _ version: ProtocolVersion,
        client: UInt64 = 0, counter: UInt64 = 0, isAsking: Bool = false
    ) -> UpstreamFailure? {
        let now = loop.now
        guard !loop.isShutDown else { return .overloaded(isAnswering: true) }
        var isProbe = false
        switch breaker.admit(now: now) {
        case .allow: break
        case .probe: isProbe = true
        case .reject(let retryAt):
            loop.statistics.breakerRejections += 1
            if let refusal { return .notAdmitted(refusal) }
            return .down(retryInMilliseconds: Int64(retryAt > now ? (retryAt - now) / 1_000_000 : 0))
        }
        let entry = PendingReply(target: target, counter: counter, sentAt: now, isProbe: isProbe)
        let refusedAfter = withConnection(version, client) { connection -> UInt64? in
            let isQueued = isAsking ? connection.sendAsking(command, entry) : connection.send(command, entry)
            return isQueued ? nil : connection.oldestWaitNanoseconds(now: now)
        }
        if let refusedAfter {
            if isProbe { breaker.abandonProbe(now: now) }
            // A node that hangs fills its connection before the timeout ends it.
            return .overloaded(isAnswering: refusedAfter < breaker.configuration.slowCallNanoseconds)
        }
        countSent()
        return nil
    }

    @inline(__always)
    func countSent() {
        load.sent()
        statistics.requests &+= 1
    }

    /// Hands the client's shared connection to `body`, which may queue commands there and end no connection.
    @inline(__always)
    private func withConnection<Result>(
        _ version: ProtocolVersion, _ client: UInt64, _ body: (UpstreamConnection) -> Result
    ) -> Result {
        let lanes = loop.configuration.connectionsPerNode
        let lane = lanes == 1 ? 0 : Int(client % UInt64(lanes))
        let place = version == .resp2 ? lane : lanes + lane
        // ``shared`` keeps it while `body` runs. A new one is kept by this call as well.
        if let connection = borrowedShared[place] { return connection.with(body) }
        return body(openConnection(version, at: place))
    }

    private func openConnection(_ version: ProtocolVersion, at place: Int) -> UpstreamConnection {
        let connection = UpstreamConnection(node: self, version: version)
        shared[place] = connection
        connection.connect()
        sampleClockIfDue()
        return connection
    }

    private var openConnections: [UpstreamConnection] { shared.compactMap { $0 } + retired }

    /// What is asked from now on takes another connection. What was asked before still comes over this one, and could be overtaken:
    /// whoever waits for something here sends nothing more until that has come.
    func retire(_ connection: UpstreamConnection) {
        for place in shared.indices where shared[place] === connection { shared[place] = nil }
        retired.append(connection)
        connection.retire()
    }

    /// Why nothing should be sent now, if the breaker is open.
    func rejection() -> UpstreamFailure? {
        guard case .open(let until) = breaker.state, until > loop.now else { return nil }
        loop.statistics.breakerRejections += 1
        if let refusal { return .notAdmitted(refusal) }
        return .down(retryInMilliseconds: Int64((until - loop.now) / 1_000_000))
    }

    func countBoundRequest() { statistics.requests &+= 1 }

    @inline(__always)
    func heard() { silentTicks = 0 }

    /// Connects ahead of the first request, so that it does not pay for it.
    func warmUp() {
        if shared[0] == nil { _ = openConnection(.resp2, at: 0) }
    }

    @inline(__always)
    func answered(_ entry: PendingReply, _ reply: ReplyView) {
        let now = loop.now
        let latency = now > entry.sentAt ? now - entry.sentAt : 0
        guard !entry.isOwnHandshake else { return }
        guard !reply.isNotServing else {
            load.failed()
            fail(entry.isProbe, .failure)
            return
        }
        load.completed(latencyNanoseconds: latency)
        statistics.latency.record(nanoseconds: latency)
        let change = breaker.record(
            .success(latencyNanoseconds: latency), wasProbe: entry.isProbe, now: now,
            mayOpenBySlowness: { loop.mayGiveUpForSlowness(self) })
        if let change { breakerChanged(to: change) }
    }

    /// All commands of a connection got no reply. An idle connection that the node closes (Redis: `timeout`) fails nothing, so it
    /// says nothing.
    func failed(_ entries: [PendingReply], _ failure: UpstreamFailure) {
        if case .localShortage = failure { return abandon(entries) }
        var commands = 0
        var probes = 0
        for entry in entries where !entry.isOwnHandshake {
            if commands == 0 { load.failed() } else { load.cancelled() }
            commands += 1
            if entry.isProbe { probes += 1 }
        }
        guard commands > 0 else { return }
        switch failure {
        case .timeout:
            statistics.timeouts &+= UInt64(commands)
            fail(commands, probes: probes, .timeout)
        case .cannotConnect, .notAdmitted:
            fail(commands, probes: probes, .failure)
        case .connectionLost, .malformedReply, .down, .localShortage, .overloaded, .notServing, .keysMoved:
            // One event, however much was on the connection: a single reset is no dead node.
            statistics.failures &+= UInt64(commands - 1)
            fail(probes > 0, .failure)
        }
    }

    /// They were not sent, and that says nothing about the node.
    func abandon(_ entries: [PendingReply]) {
        for entry in entries where !entry.isOwnHandshake {
            load.cancelled()
            if entry.isProbe { breaker.abandonProbe(now: loop.now) }
        }
    }

    private func fail(_ count: Int, probes: Int, _ outcome: CircuitBreaker.Outcome) {
        for number in 0..<count { fail(number < probes, outcome) }
    }

    private func fail(_ wasProbe: Bool, _ outcome: CircuitBreaker.Outcome) {
        statistics.failures &+= 1
        if let state = breaker.record(outcome, wasProbe: wasProbe, now: loop.now) { breakerChanged(to: state) }
    }

    /// - Parameters:
    ///   - wasReady: whether the node had accepted it.
    ///   - isOurDoing: everything has been answered, and it is not wanted any more.
    func connectionClosed(_ connection: UpstreamConnection, wasReady: Bool, isOurDoing: Bool) {
        if connection.isDedicated {
            dedicated[ObjectIdentifier(connection)] = nil
            idle.removeAll { $0 === connection }
            return
        }
        retired.removeAll { $0 === connection }
        if isOurDoing { return }
        for place in shared.indices where shared[place] === connection { shared[place] = nil }
        // Another process, with another clock, may answer at this address next time.
        lease.reset()
        clockSampledAt = 0
        // It may also have lost its memory, and our tombstones with it: a fill that is on its way could bring an old value back.
        if wasReady { copiesQuarantinedAt = loop.now }
    }

    private func breakerChanged(to state: CircuitBreaker.State) {
        switch state {
        case .open:
            loop.logger.warning(
                "cache node is failing, breaker opened: hot keys are answered from copies and local values, others fail at once",
                metadata: ["node": "\(node.name)", "address": "\(node.address)"])
        case .halfOpen:
            loop.logger.info("breaker half-open, probing", metadata: ["node": "\(node.name)"])
        case .closed:
            loop.logger.notice("cache node answers again, breaker closed", metadata: ["node": "\(node.name)"])
        }
    }

    /// Looks after time: replies that are late, an open breaker whose time is up, the node's clock.
    func tick(timeoutNanoseconds: UInt64) {
        let now = loop.now
        load.relax()
        endSilentWaits(timeoutNanoseconds: timeoutNanoseconds)
        checkTimeouts(timeoutNanoseconds: timeoutNanoseconds)
        closeIdle(before: now)
        switch breaker.state {
        case .closed: sampleClockIfDue()
        // Probes do not wait for clients: a node that nobody asks for must be found well again, too.
        case .open(let until): if now >= until { probe() }
        case .halfOpen: probe()
        }
    }

    func checkTimeouts(timeoutNanoseconds: UInt64) {
        for connection in Array(openConnections) {
            connection.checkTimeout(now: loop.now, timeoutNanoseconds: timeoutNanoseconds)
        }
        for (connection, _) in Array(dedicated.values) {
            connection.checkTimeout(now: loop.now, timeoutNanoseconds: timeoutNanoseconds)
        }
    }

    /// A command may wait for ever, but not for a node that hangs. The node is asked for its clock every second, so one that says
    /// nothing while it owes something hangs. Ticks are counted, not time: an agent that got no processor was not listening.
    private func endSilentWaits(timeoutNanoseconds: UInt64) {
        guard pendingCount > 0 else { return }
        silentTicks += 1
        let limit = timeoutNanoseconds / 1_000_000 / UInt64(RedisProxyLimits.tickMilliseconds)
        guard silentTicks > Int(limit) * RedisProxyLimits.silentTimeoutsMax else { return }
        silentTicks = 0
        for (connection, _) in Array(dedicated.values)
        where connection.bound.map(\.isPatient) ?? (connection.pendingCount > 0) {
            connection.close(.timeout)
        }
    }

    private func probe() {
        ping.withUnsafeReadableBytes { _ = send($0, .request(ClosureRequest(isHousekeeping: true) { _ in }), .resp2) }
    }

    /// Reads the node's clock now and then: the expiry times of copies are given in it.
    private func sampleClockIfDue() {
        let now = loop.now
        guard !isSamplingClock,
            clockSampledAt == 0 || now - clockSampledAt > RedisProxyLimits.clockSampleNanoseconds
        else { return }
        isSamplingClock = true
        clockSampledAt = now
        // Not weakly: an object that was ever referred to weakly counts its references beside itself, which every request would pay
        // for. The request is completed or failed in any case, and lets go of the node then.
        let request = ClosureRequest(isHousekeeping: true) { [self] result in
            isSamplingClock = false
            if case .reply(let view, _) = result { heedDemandForLogin(view) }
            guard case .reply(let view, let sentAt) = result,
                case .array(let parts)? = try? RESPValue(decoding: view.detached()), parts.count == 2,
                let seconds = parts[0].string.flatMap(UInt64.init), seconds < 1 << 40,
                let microseconds = parts[1].string.flatMap(UInt64.init)
            else { return }
            let observation = lease.observe(
                nodeMicroseconds: seconds &* 1_000_000 &+ microseconds, requestSentAt: sentAt, replyReceivedAt: loop.now
            )
            if case .stepped = observation {
                copiesQuarantinedAt = loop.now
                loop.retractCopies(on: self)
            }
        }
        let failure = time.withUnsafeReadableBytes { send($0, .request(request), .resp2) }
        if failure != nil { isSamplingClock = false }
    }

    /// Calls `body` when every command that is under way now has been answered or has failed.
    func afterPending(_ body: @escaping () -> Void) {
        let connections = openConnections
        var left = connections.count
        guard left > 0 else { return body() }
        for connection in connections {
            connection.afterPending {
                left -= 1
                if left == 0 { body() }
            }
        }
    }

    var pendingCount: Int { openConnections.reduce(0) { $0 + $1.pendingCount } }

    func currentStatistics() -> NodeStatistics {
        var current = statistics
        current.inFlight = pendingCount
        current.breaker = breakerState
        return current
    }

    /// Ends every connection; what is pending fails.
    func shutDown() {
        for connection in openConnections + idle { connection.close(.connectionLost) }
        endBound(.connectionLost)
    }

    /// Ends connections that clients have for themselves, where a command may wait for ever.
    private func endBound(_ failure: UpstreamFailure) {
        for (connection, _) in Array(dedicated.values) { connection.close(failure) }
    }
}

extension ProxyLoop {
    /// Whether one more node may be given up although it answers, only slowly. Its own breaker is at work and not asked.
    func mayGiveUpForSlowness(_ candidate: NodeState) -> Bool {
        let nodes = cluster.map { Array($0.known.values) } ?? nodes
        return configuration.slownessQuota.allowsOneMore(
            open: nodes.count { $0 !== candidate && $0.isOpenBySlowness }, of: nodes.count)
    }
}

private let ping = ByteBuffer(string: "*1\r\n$4\r\nPING\r\n")
private let time = ByteBuffer(string: "*1\r\n$4\r\nTIME\r\n")
