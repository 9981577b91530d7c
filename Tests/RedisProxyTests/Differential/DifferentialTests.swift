import Dispatch
import Foundation
import HotKeyMitigation
import HotKeyTestSupport
import RESP
import RedisProxy
import Testing

extension ProxyTests {
    /// The judge of transparency: random commands to a server directly and to an equal one through the proxy.
    @Suite struct Differential {
        /// Commands for each mode; `HOTKEY_DIFFERENTIAL` sets another number.
        private static let commands =
            ProcessInfo.processInfo.environment["HOTKEY_DIFFERENTIAL"].flatMap(Int.init) ?? 4000

        /// `HOTKEY_DIFFERENTIAL_VERSION` chooses one protocol version.
        private static let versions =
            ProcessInfo.processInfo.environment["HOTKEY_DIFFERENTIAL_VERSION"].flatMap(Int.init).map { [$0] } ?? [2, 3]

        /// By value (`ZLEXCOUNT` and its kin) a sorted set with several scores is searched in the levels of its skip list, which are drawn
        /// at random: two servers answer differently, and so Redis's manual calls it unspecified. A listpack is searched from end to end.
        static func keepListpacks(_ server: RedisServer) async throws {
            let client = try await server.client()
            let reply = try await client.command(
                "CONFIG", "SET", "zset-max-listpack-entries", "100000", "zset-max-listpack-value", "100000000")
            #expect(reply == .ok)
            await client.close()
        }

        @Test(arguments: versions, [false, true])
        func oneNodeAnswersAsDirectly(_ version: Int, _ isPipelined: Bool) async throws {
            let servers = try await Rig.startNodes(2)
            for server in servers { try await Self.keepListpacks(server) }
            try await Rig.with(nodes: [servers[1]]) { rig in
                try await rig.apply(
                    .mitigate, [hot("s0", .cache), hot("h1", .cache), hot("z2", .cache), hot("k", .cache)])
                let random = SeededGenerator(printing: "differential RESP\(version)\(isPipelined ? " pipelined" : "")")
                let direct = servers[0].port
                let proxied = rig.port
                let seen = try await onThread {
                    var run = try DifferentialRun(
                        random: random, version: version, isPipelined: isPipelined, direct: direct, proxied: proxied,
                        clients: 4)
                    try run.run(commands: Self.commands)
                    return run.seen
                }
                print("differential RESP\(version): \(seen.count) commands of the table were used")
                // The run is random, so the shares are; far from all is a fault of the generator.
                #expect(seen.count > (Self.commands >= 4000 ? 200 : 20))
            }
            for server in servers { await server.stop() }
        }

        /// Before three nodes: the same, but for what the documentation tells.
        @Test(arguments: versions, [false, true])
        func threeNodesAnswerAsOneServer(_ version: Int, _ isPipelined: Bool) async throws {
            let servers = try await Rig.startNodes(4)
            for server in servers { try await Self.keepListpacks(server) }
            try await Rig.with(nodes: Array(servers[1...])) { rig in
                try await rig.apply(
                    .mitigate, [hot("s0", .cache), hot("h1", .cache), hot("z2", .cache), hot("k", .cache)])
                let random = SeededGenerator(
                    printing: "differential of three nodes RESP\(version)\(isPipelined ? " pipelined" : "")")
                let (direct, proxied) = (servers[0].port, rig.port)
                let placed = PlacedExpectations(topology: rig.topology)
                let seen = try await onThread {
                    var run = try DifferentialRun(
                        random: random, version: version, isPipelined: isPipelined, direct: direct, proxied: proxied,
                        clients: 4, placed: placed)
                    try run.run(commands: Self.commands)
                    return run.seen
                }
                print("differential of three nodes RESP\(version): \(seen.count) commands of the table were used")
                #expect(seen.count > (Self.commands >= 4000 ? 200 : 20))
            }
            for server in servers { await server.stop() }
        }

        /// Every command is either in the random stream or has a reason not to be.
        @Test func theGrammarKnowsEveryCommand() {
            let names = Set(
                CommandGrammar.forms.flatMap { form in
                    form[0].split(separator: "|").flatMap { first -> [String] in
                        let first = first.lowercased()
                        return [first]
                            + (form.count > 1
                                ? form[1].split(separator: "|").map { "\(first)|\($0.lowercased())" } : [])
                    }
                })
            let missing = CommandTable.redis70.commands.map(\.name).filter { name in
                !names.contains(name) && CommandGenerator.excluded[name] == nil
                    && !name.hasPrefix("cluster|") && !name.hasSuffix("|help")
            }
            #expect(missing.isEmpty, "\(missing)")
        }
    }
}

/// Runs what blocks on a thread of its own.
func onThread<T: Sendable>(_ body: @escaping @Sendable () throws -> T) async throws -> T {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread { continuation.resume(with: Result { try body() }) }
    }
}
