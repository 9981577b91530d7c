import Foundation
import HotKeyMitigation
import HotKeyTestSupport
import Logging
import NIOCore
import NIOPosix
import RESP
import RedisProxy
import SocketIO
import Testing

/// What every suite here hangs under: one test after the other, so that times and counters of the shared nodes are a test's own.
@Suite(.serialized) struct ProxyTests {}

/// Three nodes for every test that does not harm them, and one server that says what Redis itself would. They end with the test
/// process.
actor SharedNodes {
    static let shared = SharedNodes()
    private var starting: Task<[RedisServer], any Error>?

    private func all() async throws -> [RedisServer] {
        if starting == nil { starting = Task { try await Rig.startNodes(4) } }
        return try await starting!.value
    }

    static func nodes() async throws -> [RedisServer] { Array(try await shared.all()[0..<3]) }
    static func reference() async throws -> RedisServer { try await shared.all()[3] }
}

/// Counts as the agent's recorder does, in the plainest way.
final class CountingRecorder: KeyAccessRecorder {
    struct Count: Sendable, Equatable {
        var reads = 0
        var writes = 0
        var replyBytes = 0
        var misses = 0
    }
    private(set) var counts: [String: Count] = [:]
    private var slots: [(name: String, isRead: Bool)] = []

    override func record(key: UnsafeRawBufferPointer, hash: UInt64, reads: UInt32, writes: UInt32) -> UInt64 {
        let name = String(decoding: key, as: UTF8.self)
        counts[name, default: Count()].reads += Int(reads)
        counts[name, default: Count()].writes += Int(writes)
        slots.append((name, reads > 0))
        return UInt64(slots.count)
    }

    override func addReply(_ slot: UInt64, bytes: Int, isMiss: Bool) {
        let (name, isRead) = slots[Int(slot) - 1]
        counts[name]!.replyBytes += bytes
        counts[name]!.misses += isRead && isMiss ? 1 : 0
    }
}

/// The agent behind `HK.` commands: `HK.ECHO …`, `HK.LOOP` (which event loop asks), `HK.SLOW milliseconds text`, `HK.FAIL`, `HK.MAP`, and `HK.STALL milliseconds`, which
/// holds up the event loop.
struct AgentStub: AgentCommandHandler {
    /// How many event loops have been held up so far.
    static let stalls = Guarded(0)

    func reply(to arguments: [[UInt8]], on eventLoop: any EventLoop) -> EventLoopFuture<RESPValue> {
        let words = arguments.map { String(decoding: $0, as: UTF8.self) }
        switch words[0] {
        case "HK.ECHO": return eventLoop.makeSucceededFuture(.array(arguments.dropFirst().map { .bulk($0) }))
        case "HK.LOOP":
            return eventLoop.makeSucceededFuture(.bulk("\(ObjectIdentifier(eventLoop).hashValue)"))
        case "HK.MAP": return eventLoop.makeSucceededFuture(.map([.init(.bulk("a"), .null)]))
        case "HK.SLOW":
            return eventLoop.scheduleTask(in: .milliseconds(Int64(words[1]) ?? 0)) { .bulk(words[2]) }.futureResult
        case "HK.STALL":
            Self.stalls.with { $0 += 1 }
            Thread.sleep(forTimeInterval: (Double(words[1]) ?? 0) / 1000)
            return eventLoop.makeSucceededFuture(.simpleString("OK"))
        default: return eventLoop.makeFailedFuture(TestSupportError(.misuse, "no such command"))
        }
    }
}

/// A proxy on its own event loops before some nodes.
final class Rig: Sendable {
    static let hashSeed: UInt64 = 0x5eed_cafe
    static let names = ["a", "b", "c", "d", "e"]

    let nodes: [RedisServer]
    let topology: ProxyTopology
    let server: ProxyServer
    let group: SocketEventLoopGroup
    let port: Int

    static func startNodes(_ count: Int) async throws -> [RedisServer] {
        try await withThrowingTaskGroup(of: RedisServer.self) { group in
            for _ in 0..<count { group.addTask { try await RedisServer.start() } }
            return try await group.reduce(into: []) { $0.append($1) }
        }
    }

    /// - Parameter ports: where the proxy finds each node, when not at the node itself. Placement is by the nodes' own ports.
    static func topology(_ nodes: [RedisServer], ports: [Int]? = nil) throws -> ProxyTopology {
        let proxied = nodes.enumerated().map { index, node in
            ProxyNode(name: names[index], host: "127.0.0.1", port: ports?[index] ?? node.port)
        }
        let placement = try Placement(
            nodes: nodes.map { PlacementNode(ringName: $0.address, weight: 1) }, hash: .fnv1a_64, distribution: .ketama,
            hashTag: (UInt8(ascii: "{"), UInt8(ascii: "}")))
        return ProxyTopology(nodes: proxied, placement: placement)
    }

    private init(
        nodes: [RedisServer], topology: ProxyTopology, configuration: ProxyConfiguration, loops: Int
    ) async throws {
        self.nodes = nodes
        self.topology = topology
        group = try SocketEventLoopGroup(count: loops)
        server = try await ProxyServer(
            configuration: configuration, group: group, topology: topology, agentCommands: AgentStub(),
            logger: Logger(label: "proxy") { _ in SwiftLogNoOpLogHandler() }, makeRecorder: { _ in CountingRecorder() },
            makeRandom: { SeededGenerator(seed: UInt64($0)) })
        try await server.start()
        guard case .tcp(_, let port) = try await server.listen(on: .tcp(host: "127.0.0.1", port: 0), role: .app) else {
            throw TestSupportError(.misuse, "no TCP address")
        }
        self.port = port
    }

    /// Runs `body` with a proxy before `nodes` (the shared ones when nil) and ends the proxy afterwards.
    ///
    /// - Parameter isTracking: whether nodes tell of changes. Where they do not, policies' own lifetimes hold.
    static func with(
        nodes: [RedisServer]? = nil, ports: [Int]? = nil, loops: Int = 2, topology: ProxyTopology? = nil,
        isTracking: Bool = false, configure: (inout ProxyConfiguration) -> Void = { _ in },
        _ body: (Rig) async throws -> Void
    ) async throws {
        let used = if let nodes { nodes } else { try await SharedNodes.nodes() }
        var configuration = ProxyConfiguration(hashSeed: hashSeed)
        // A busy machine is no hung node: tests of time limits set their own.
        configuration.requestTimeoutMilliseconds = 10_000
        configuration.connectTimeoutMilliseconds = 5000
        configuration.breaker.slowCallNanoseconds = 10_000_000_000
        configuration.tracksHotKeys = isTracking
        // Most tests count what reaches the nodes.
        configuration.cacheProbePermille = 0
        // Most tests find out by a write past the proxy whether a value was kept, and for how long.
        configuration.untrackedLifetimeNanosecondsMax = isTracking ? 100_000_000 : .max
        configure(&configuration)
        let rig = try await Rig(
            nodes: used, topology: try topology ?? Self.topology(used, ports: ports), configuration: configuration,
            loops: loops)
        do {
            try await body(rig)
        } catch {
            await rig.end()
            throw error
        }
        await rig.end()
    }

    private func end() async {
        await server.shutDown()
        try? await group.shutdownGracefully()
    }

    func client() async throws -> RedisTestClient { try await RedisTestClient.connect(port: port) }

    /// A client whose connection is served by that event loop.
    func client(onLoop loop: Int, version: Int = 2) async throws -> RedisTestClient {
        for _ in 0..<64 {
            let client = try await client()
            let served = try await client.command("HK.LOOP").string
            if served == "\(ObjectIdentifier(Array(group.makeIterator())[loop]).hashValue)" {
                if version == 3 { try await client.command("HELLO", "3") }
                return client
            }
            await client.close()
        }
        throw TestSupportError(.misuse, "no connection was given to event loop \(loop)")
    }

    func apply(
        _ mode: ProxySnapshot.Mode, _ policies: [HotKeyPolicy] = [], topology: ProxyTopology? = nil
    ) async throws {
        try await server.apply(
            ProxySnapshot(
                mode: mode, topology: topology ?? self.topology, table: HotKeyTable(policies, seed: Self.hashSeed)))
    }

    /// The nodes of a key, home first, then where its copies lie.
    func places(_ key: String) -> [Int] {
        Array(key.utf8).withUnsafeBytes { topology.placement!.successors($0, count: 16) }
    }
    func home(_ key: String) -> Int { places(key)[0] }

    /// Keys that live on one node.
    func keys(on node: Int, _ prefix: String, count: Int) -> [String] {
        Array((0...).lazy.map { "\(prefix):\($0)" }.filter { self.home($0) == node }.prefix(count))
    }

    func key(on node: Int, _ prefix: String) -> String { keys(on: node, prefix, count: 1)[0] }

    /// How often a node has carried out a command.
    func calls(_ command: String, at node: Int) async throws -> Int {
        let client = try await nodes[node].client()
        let info = try await client.command("INFO", "commandstats").string ?? ""
        await client.close()
        guard
            let line = info.split(whereSeparator: \.isNewline).first(where: {
                $0.hasPrefix("cmdstat_\(command):calls=")
            })
        else { return 0 }
        return Int(line.dropFirst("cmdstat_\(command):calls=".count).prefix { $0.isNumber }) ?? 0
    }

    /// Sends one command to one node, past the proxy.
    @discardableResult
    func direct(_ node: Int, _ words: String...) async throws -> RedisTestValue {
        let client = try await nodes[node].client()
        let reply = try await client.command(words)
        await client.close()
        return reply
    }

    /// Sends commands and returns when the proxy has sent them on, answered or not. No other client may be at work.
    func begin(_ client: RedisTestClient, _ commands: [String]...) async throws {
        let before = try await server.statistics().requests
        try await client.send(raw: commands.flatMap { encode($0) })
        try await eventually("the proxy has taken the commands") {
            try await server.statistics().requests == before + UInt64(commands.count)
        }
    }

    func breaker(_ node: Int) async throws -> NodeStatistics.Breaker {
        try await server.statistics().nodes[node].breaker
    }

    func counts(_ key: String) async throws -> CountingRecorder.Count {
        try await server.withRecorders { _, recorder in (recorder as! CountingRecorder).counts[key] ?? .init() }
            .reduce(into: .init()) {
                $0.reads += $1.reads
                $0.writes += $1.writes
                $0.replyBytes += $1.replyBytes
                $0.misses += $1.misses
            }
    }
}

/// A hot key's policy; the cap is divided as the agent divides it.
func hot(
    _ key: String, _ kind: MitigationKind, copies: Int = 2, capMilliseconds: UInt64 = 60_000,
    staleMilliseconds: UInt64 = 0, missIntervalMilliseconds: UInt64 = 0, missHoldMilliseconds: UInt64 = 0
) -> HotKeyPolicy {
    let lifetimes = HotKeyPolicy.split(capNanoseconds: capMilliseconds * 1_000_000, kind: kind)
    return HotKeyPolicy(
        key: Array(key.utf8), kind: kind, copies: kind.usesCopies ? copies : 0,
        localLifetimeNanoseconds: lifetimes.localLifetimeNanoseconds,
        copyLifetimeNanoseconds: lifetimes.copyLifetimeNanoseconds,
        staleOnErrorNanoseconds: staleMilliseconds * 1_000_000,
        missIntervalNanoseconds: missIntervalMilliseconds * 1_000_000,
        missHoldNanoseconds: missHoldMilliseconds * 1_000_000)
}

extension RedisTestClient {
    /// Commands of one line each, blanks between their words, sent at once.
    func lines(_ lines: [String]) async throws -> [RedisTestValue] {
        try await pipeline(lines.map { $0.split(separator: " ").map(String.init) })
    }

    /// Exactly so many bytes as they come.
    func receiveRaw(count: Int) async throws -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        while bytes.count < count {
            let chunk = try await receiveRaw()
            if chunk.isEmpty {
                throw TestSupportError(.connectionClosed, "closed after \(bytes.count) of \(count) bytes")
            }
            bytes += chunk
        }
        return bytes
    }

    func line(_ line: String) async throws -> RedisTestValue { try await lines([line])[0] }
}

func encode(_ words: [String]) -> [UInt8] { encode(words: words.map { Array($0.utf8) }) }

func encode(words: [[UInt8]]) -> [UInt8] {
    var buffer = ByteBuffer()
    RESPWriter.writeCommand(words, to: &buffer)
    return Array(buffer.readableBytesView)
}
