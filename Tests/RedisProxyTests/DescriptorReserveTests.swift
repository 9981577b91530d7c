import HotKeyMitigation
import HotKeyTestSupport
import Logging
import NIOCore
import NIOPosix
import SocketIO
import Testing

@testable import RedisProxy

extension ProxyTests {
    @Suite struct DescriptorReserves {
        /// A table of so many descriptors that are free.
        private final class Table: Sendable {
            private let free: Guarded<Int>
            private let lowest: Guarded<Int>

            init(free: Int) {
                self.free = Guarded(free)
                lowest = Guarded(free)
            }

            var count: Int { free.with { $0 } }
            var lowestCount: Int { lowest.with { $0 } }

            /// - Parameter change: how many become free; negative: are taken.
            func add(_ change: Int) {
                free.with { $0 += change }
                lowest.with { $0 = count }
            }

            func reserve() -> DescriptorReserve {
                DescriptorReserve(
                    logger: Logger(label: "test"),
                    open: { [self] in
                        let taken = free.with { free in
                            guard free > 0 else { return false }
                            free -= 1
                            return true
                        }
                        let now = count
                        lowest.with { $0 = min($0, now) }
                        return taken ? 7 : -1
                    }, close: { [self] _ in free.with { $0 += 1 } })
            }
        }

        private let held = RedisProxyLimits.heldDescriptors
        private let spare = RedisProxyLimits.spareDescriptors
        private let pause = RedisProxyLimits.descriptorRegainNanoseconds

        /// Clients take one after the other, and each time it is asked.
        @Test func whenTheLastAreTakenThoseHeldAreLetGo() {
            let table = Table(free: held + 50)
            let reserve = table.reserve()
            #expect(table.count == 50)
            var taken = 0
            while !reserve.isShort(now: 0), taken < 100 {
                table.add(-1)
                taken += 1
            }
            #expect(taken == 50 - spare + 1)
            #expect(table.count == held + spare - 1)
            // Asked all the time, and none is taken for the question.
            table.add(0)
            for now in 0..<100 { #expect(reserve.isShort(now: UInt64(now))) }
            #expect(table.lowestCount == held + spare - 1)
            // Enough have become free; it is noticed at its time, and what is held is held again.
            table.add(spare)
            #expect(reserve.isShort(now: pause))
            table.add(1)
            #expect(reserve.isShort(now: 2 * pause - 1))
            #expect(!reserve.isShort(now: 2 * pause))
            #expect(table.count == 2 * spare)
        }

        @Test func aRefusalIsAShortage() {
            let table = Table(free: held + 2 * spare)
            let reserve = table.reserve()
            #expect(!reserve.isShort(now: 0))
            reserve.noteShortage(now: 5)
            #expect(table.count == held + 2 * spare)
            #expect(reserve.isShort(now: 5))
            table.add(-1)
            #expect(reserve.isShort(now: 5 + pause))
            table.add(1)
            #expect(reserve.isShort(now: 5 + pause + 1), "the next question has its time")
            #expect(!reserve.isShort(now: 5 + 2 * pause))
            reserve.letGo()
            #expect(table.count == held + 2 * spare)
        }

        @Test func aProcessThatStartsWithFewGetsThemLater() {
            let table = Table(free: 3)
            let reserve = table.reserve()
            #expect(table.count == 3)
            table.add(held + 2 * spare)
            #expect(!reserve.isShort(now: pause))
            #expect(table.count == 2 * spare + 3)
        }

        @Test(arguments: [
            (EMFILE, "no file descriptor left"), (ENFILE, "no file descriptor left"),
            (EADDRNOTAVAIL, "no local port left"),
            (ENOBUFS, "no memory for a socket left"), (ENOMEM, "no memory for a socket left"),
        ])
        func whatThisHostLacksIsTold(_ code: CInt, _ text: String) throws {
            let shortage = try #require(LocalShortage(IOError(errnoCode: code, reason: "connect")))
            let node = ProxyNode(name: "a", host: "10.0.0.1", port: 6379)
            let told = UpstreamFailure.localShortage(shortage).text(node)
            #expect(told.contains(text) && told.contains("cache node a (10.0.0.1:6379), nothing was sent; "))
        }

        @Test func whatTheNodeDoesIsNoShortage() async throws {
            for code in [ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ECONNRESET] {
                #expect(LocalShortage(IOError(errnoCode: code, reason: "connect")) == nil)
            }
            #expect(LocalShortage(ChannelError.connectTimeout(.seconds(1))) == nil)
            // As it comes: nobody listens there.
            let port = try FreePort.next()
            let group = try SocketEventLoopGroup(count: 1)
            let eventLoop = group.loops[0]
            let refused = eventLoop.makePromise(of: CInt.self)
            try await eventLoop.submit {
                _ = SocketConnector.connect(
                    host: "127.0.0.1", port: port, on: eventLoop, timeoutMilliseconds: 10_000, options: TCPOptions(),
                    check: {}, completion: { refused.completeWith($0) })
            }.get()
            let error = await #expect(throws: ConnectError.self) { _ = try await refused.futureResult.get() }
            #expect(LocalShortage(try #require(error)) == nil)
            try await group.shutdownGracefully()
        }

        /// Otherwise an agent short of descriptors would call every healthy node down.
        @Test func aShortageOfOurOwnOpensNoBreaker() async throws {
            let group = try SocketEventLoopGroup(count: 1)
            let eventLoop = group.loops[0]
            let (afterShortage, afterFailures) = try await eventLoop.submit {
                let loop = ProxyLoop(
                    index: 0, eventLoop: eventLoop,
                    configuration: ProxyConfiguration(hashSeed: 0),
                    topology: nil, recorder: nil, agentCommands: AgentStub(), logger: Logger(label: "test"),
                    cacheBytes: 0,
                    descriptors: Table(free: 100).reserve(), random: SystemRandomNumberGenerator())
                let node = NodeState(node: ProxyNode(name: "a", host: "10.0.0.1", port: 6379), loop: loop)
                func fail(_ failure: UpstreamFailure) {
                    let request = ClosureRequest { _ in }
                    let entry = PendingReply(target: .request(request), counter: 0, sentAt: loop.now, isProbe: false)
                    node.countSent()
                    node.failed([entry], failure)
                }
                for _ in 0..<50 { fail(.localShortage(.descriptors)) }
                let afterShortage = (node.isUsable, node.currentStatistics().failures)
                for _ in 0..<50 { fail(.cannotConnect) }
                return (afterShortage, node.isUsable)
            }.get()
            #expect(afterShortage == (true, 0))
            #expect(!afterFailures)
            try await group.shutdownGracefully()
        }
    }
}
