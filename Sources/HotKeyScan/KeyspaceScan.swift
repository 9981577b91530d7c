import HotKeyMitigation
import HotKeyPeer
public import NIOCore
public import NIOPosix
import RESP
public import TransportSecurity

/// Finds the keys with the highest LFU counters on cache nodes, as `redis-cli --hotkeys` does: `SCAN` over the whole of database 0, and
/// `OBJECT FREQ` of each key, which does not touch its counter.
///
/// Nodes are scanned beside each other, each at no more than the given rate; a node that stalls is not made up for afterwards. One
/// that cannot be scanned does not end the others. Copies that agents have made are passed over, and keys over 1 KiB.
public struct KeyspaceScan: Sendable {
    public struct Configuration: Sendable {
        /// Keys of each node that are looked at in a second at most.
        public var keysPerSecondMax = ScanLimits.keysPerSecondDefault
        /// Keys that are kept.
        public var topMax = ScanLimits.topDefault
        /// For a connection, and for each answer.
        public var timeoutMilliseconds = PeerLimits.requestTimeoutMillisecondsDefault
        /// Set: connections are encrypted.
        public var tls: TLSClient?
        /// As whom to log in at a node, by its name.
        public var login: @Sendable (String) -> Login? = { _ in nil }

        public init() {}
    }

    private let configuration: Configuration
    private let group: any EventLoopGroup

    public init(_ configuration: Configuration, group: any EventLoopGroup = MultiThreadedEventLoopGroup.singleton) {
        self.configuration = configuration
        self.group = group
    }

    /// Throws only when cancelled.
    public func run(
        _ nodes: [ScanNode], onProgress: @escaping @Sendable (ScanProgress) -> Void = { _ in }
    ) async throws -> ScanResult {
        let scans = try await withThrowingTaskGroup(of: (Int, NodeScan, [ScannedKey]).self) { group in
            var results: [Int: (NodeScan, [ScannedKey])] = [:]
            for (index, node) in nodes.enumerated() {
                if index >= ScanLimits.nodesAtOnceMax, let (done, scan, keys) = try await group.next() {
                    results[done] = (scan, keys)
                }
                group.addTask {
                    let (scan, keys) = try await scan(node, onProgress)
                    return (index, scan, keys)
                }
            }
            for try await (index, scan, keys) in group { results[index] = (scan, keys) }
            return nodes.indices.compactMap { results[$0] }
        }
        let keys = scans.flatMap(\.1).map { (rank: $0.rank, scanned: $0) }.sorted { left, right in
            left.rank == right.rank
                ? left.scanned.key.lexicographicallyPrecedes(right.scanned.key) : left.rank > right.rank
        }.map(\.scanned)
        return ScanResult(nodes: scans.map(\.0), keys: Array(keys.prefix(configuration.topMax)))
    }

    /// The masters of a Redis Cluster. As ``clusterSlots(_:)``.
    public func clusterMasters(_ seeds: [ScanNode]) async throws -> [ScanNode] {
        ClusterReply.masters(try await clusterSlots(seeds))
    }

    /// Who has which slots of a Redis Cluster, asked of the first of these that answers. Throws the last ``ScanProblem`` when none
    /// does.
    public func clusterSlots(_ seeds: [ScanNode]) async throws -> [SlotRange] {
        var last = ScanProblem(.unreachable, "the topology names no node", remedy: "See 'hkctl topology show'.")
        for seed in seeds {
            do {
                return try await withConnection(to: seed) { client in
                    try ClusterReply.slots(try await ask(client, seed, "CLUSTER", "SLOTS"), askedAt: seed)
                }
            } catch let problem as ScanProblem {
                last = problem
            }
        }
        throw last
    }

    // MARK: One node

    private func scan(
        _ node: ScanNode, _ onProgress: @Sendable (ScanProgress) -> Void
    ) async throws -> (NodeScan, [ScannedKey]) {
        var scan = NodeScan(node: node)
        var top = TopKeys(limit: configuration.topMax)
        do {
            try await withConnection(to: node) { client in
                scan.policy = try await policy(client, node)
                guard scan.policy.map({ $0.hasSuffix("-lfu") }) ?? false else { throw Self.notLFU(node, scan.policy) }
                scan.settings = try await settings(client, node)
                let total = (try? await ask(client, node, "DBSIZE")).flatMap(\.wholeNumber) ?? 0
                try await walk(client, node, total: total, &scan, &top, onProgress)
            }
        } catch let problem as ScanProblem {
            scan.problem = problem
        }
        let keys = top.sorted.map { entry in
            ScannedKey(
                key: entry.key, node: node.name, counter: entry.counter,
                estimate: scan.settings?.estimate(counter: entry.counter))
        }
        return (scan, keys)
    }

    private func walk(
        _ client: PeerClient, _ node: ScanNode, total: Int, _ scan: inout NodeScan, _ top: inout TopKeys,
        _ onProgress: @Sendable (ScanProgress) -> Void
    ) async throws {
        let range = ScanLimits.batchKeysRange
        let batch = min(
            max(configuration.keysPerSecondMax / ScanLimits.batchesPerSecond, range.lowerBound), range.upperBound)
        var cursor = Array("0".utf8)
        var due = ContinuousClock.now
        var toldAt = ContinuousClock.now
        repeat {
            let reply = try await ask(
                client, node, [Array("SCAN".utf8), cursor, Array("COUNT".utf8), Array("\(batch)".utf8)])
            guard case .array(let parts) = reply, parts.count == 2, case .bulk(let next) = parts[0],
                case .array(let names) = parts[1]
            else { throw Self.malformed(node, "SCAN") }
            cursor = next
            let keys = names.compactMap { name -> [UInt8]? in
                guard case .bulk(let bytes) = name else { return nil }
                return bytes
            }
            for start in stride(from: 0, to: keys.count, by: ScanLimits.callsAtOnceMax) {
                let part = Array(keys[start..<min(start + ScanLimits.callsAtOnceMax, keys.count)])
                try await count(part, client, node, &top)
            }
            scan.keysScanned += keys.count
            // A call looks at so many places of the node's table, however few keys stand there. What a stall has cost is not made
            // up for: the next call is due after the last one, not by the scan's beginning.
            due = max(due, .now) + .seconds(Double(max(keys.count, batch)) / Double(configuration.keysPerSecondMax))
            if ContinuousClock.now - toldAt >= .milliseconds(ScanLimits.progressMilliseconds) {
                toldAt = .now
                onProgress(ScanProgress(node: node.name, keysScanned: scan.keysScanned, keysTotal: total))
            }
            if cursor != Array("0".utf8) { try await Task.sleep(until: due, clock: .continuous) }
        } while cursor != Array("0".utf8)
        onProgress(ScanProgress(node: node.name, keysScanned: scan.keysScanned, keysTotal: total))
    }

    /// One pipeline: each call is sent before the answer of the one before it has come.
    private func count(
        _ keys: [[UInt8]], _ client: PeerClient, _ node: ScanNode, _ top: inout TopKeys
    ) async throws {
        let wanted = keys.filter { $0.count <= ScanLimits.keyBytesMax && !$0.starts(with: CopyCodec.namePrefix) }
        let replies = try await withThrowingTaskGroup(of: (Int, RESPValue).self) { group in
            for (index, key) in wanted.enumerated() {
                group.addTask {
                    (index, try await ask(client, node, [Array("OBJECT".utf8), Array("FREQ".utf8), key]))
                }
            }
            return try await group.reduce(into: [(Int, RESPValue)]()) { $0.append($1) }
        }
        for (index, reply) in replies {
            switch reply {
            case .integer(let counter): top.offer(wanted[index], counter: Int(clamping: counter))
            case .null: continue  // Gone since it was named.
            default: throw Self.malformed(node, "OBJECT FREQ")
            }
        }
    }

    // MARK: What a node says of itself

    private func policy(_ client: PeerClient, _ node: ScanNode) async throws -> String? {
        if let policy = try await setting("maxmemory-policy", client) { return policy }
        // Services that keep CONFIG to themselves tell it here.
        guard let info = try await ask(client, node, "INFO", "memory").string else { return nil }
        let line = info.split(whereSeparator: \.isNewline).first { $0.hasPrefix("maxmemory_policy:") }
        return line.map { String($0.dropFirst("maxmemory_policy:".count)) }
    }

    private func settings(_ client: PeerClient, _ node: ScanNode) async throws -> LFUSettings? {
        guard let factor = try await setting("lfu-log-factor", client).flatMap({ Int($0) }),
            let decay = try await setting("lfu-decay-time", client).flatMap({ Int($0) })
        else { return nil }
        return LFUSettings(logFactor: factor, decayMinutes: decay)
    }

    /// Nil where the node does not tell.
    private func setting(_ name: String, _ client: PeerClient) async throws -> String? {
        let reply = try await client.command(["CONFIG", "GET", name].map { Array($0.utf8) })
        guard case .array(let parts) = reply, parts.count == 2 else { return nil }
        return parts[1].string
    }

    // MARK: Asking

    func withConnection<Value>(
        to node: ScanNode, _ body: (PeerClient) async throws -> Value
    ) async throws -> Value {
        do {
            let client = try await PeerClient.connect(
                to: node.address, group: group,
                configuration: PeerConfiguration(
                    connectTimeoutMilliseconds: configuration.timeoutMilliseconds,
                    requestTimeoutMilliseconds: configuration.timeoutMilliseconds,
                    replyBytesMax: ScanLimits.replyBytesMax),
                security: PeerSecurity(tls: configuration.tls))
            do {
                if let login = configuration.login(node.name) {
                    _ = try await ask(
                        client, node, [Array("AUTH".utf8), Array(login.user.utf8), login.password.revealed])
                }
                let value = try await body(client)
                await client.close()
                return value
            } catch {
                await client.close()
                throw error
            }
        } catch let error as PeerError {
            throw Self.problem(node, error)
        }
    }

    func ask(_ client: PeerClient, _ node: ScanNode, _ words: String...) async throws -> RESPValue {
        try await ask(client, node, words.map { Array($0.utf8) })
    }

    /// An error that the node answers with is thrown.
    private func ask(_ client: PeerClient, _ node: ScanNode, _ words: [[UInt8]]) async throws -> RESPValue {
        let reply = try await client.command(words)
        guard case .error(let text) = reply else { return reply }
        let name = String(decoding: words[0], as: UTF8.self)
        let quoted = String(decoding: text.utf8.prefix(ScanLimits.quotedBytesMax), as: UTF8.self)
        if name == "OBJECT", text.contains("LFU") { throw Self.notLFU(node, nil) }
        let isRefused = ["NOAUTH", "WRONGPASS", "NOPERM"].contains { text.hasPrefix($0) }
        throw ScanProblem(
            .refused, "\(node.name) (\(node.address)) answers \(name) with: \(quoted)",
            remedy: isRefused
                ? "A scan needs a user that may do SCAN, OBJECT|FREQ, DBSIZE, INFO and, for rates, CONFIG|GET on all keys; for "
                    + "what a node can carry INFO is enough."
                : "Scan it when it serves.")
    }
}

extension KeyspaceScan {
    static func notLFU(_ node: ScanNode, _ policy: String?) -> ScanProblem {
        ScanProblem(
            .notLFU,
            "\(node.name) (\(node.address)) keeps no access counters: its maxmemory-policy is "
                + "\(policy ?? "not an LFU policy"), and Redis counts accesses only under allkeys-lfu or volatile-lfu",
            remedy: """
                Set one of these on the node (CONFIG SET maxmemory-policy allkeys-lfu) and wait until the traffic has filled the \
                counters; under a maxmemory that is reached, it also decides what is evicted. What goes through agents is counted \
                without it
                """)
    }

    fileprivate static func malformed(_ node: ScanNode, _ command: String) -> ScanProblem {
        ScanProblem(
            .malformedReply, "\(node.name) (\(node.address)) answers \(command) with something else than Redis does",
            remedy: "See that the address is that of a Redis or Valkey server.")
    }

    fileprivate static func problem(_ node: ScanNode, _ error: PeerError) -> ScanProblem {
        let code: ScanProblem.Code =
            switch error.code {
            case .malformedReply, .replyTooLarge: .malformedReply
            case .notAdmitted, .refused: .refused
            case .badArgument, .unreachable, .timedOut, .closed, .tooManyInFlight: .unreachable
            }
        return ScanProblem(
            code, "\(node.name) (\(error.address)) could not be scanned: \(error.message)",
            remedy: code == .refused
                ? "See that TLS and the login are as the node wants them."
                : "See that it runs and is reached from this host.")
    }
}

extension ScannedKey {
    /// By which keys of several nodes are put in order. Where no rate is known, that of Redis's default settings has to do.
    fileprivate var rank: Double {
        (estimate ?? LFUSettings().estimate(counter: counter))?.accessesPerSecond ?? 0
    }
}

extension RESPValue {
    fileprivate var wholeNumber: Int? {
        if case .integer(let value) = self { Int(exactly: value) } else { nil }
    }
}
