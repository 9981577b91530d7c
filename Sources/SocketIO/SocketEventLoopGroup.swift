public import Dispatch
import NIOConcurrencyHelpers
public import NIOCore

/// Event loops for sockets, a thread each.
public final class SocketEventLoopGroup: EventLoopGroup {
    public let loops: [SocketEventLoop]
    private let turn = NIOLockedValueBox(0)

    /// Throws `IOError` when the system gives no thread or descriptor.
    public init(count: Int) throws {
        precondition(count > 0, "an event loop group needs an event loop")
        var loops: [SocketEventLoop] = []
        do {
            while loops.count < count { loops.append(try SocketEventLoop(name: "loop-\(loops.count)")) }
        } catch {
            for loop in loops { loop.shutdownGracefully(queue: .global()) { _ in } }
            throw error
        }
        self.loops = loops
    }

    public func next() -> any EventLoop {
        loops[
            turn.withLockedValue { turn in
                defer { turn = (turn + 1) % loops.count }
                return turn
            }]
    }

    public func makeIterator() -> EventLoopIterator { EventLoopIterator(loops) }

    public func shutdownGracefully(
        queue: DispatchQueue, _ callback: @escaping @Sendable ((any Error)?) -> Void
    ) {
        let all = DispatchGroup()
        for loop in loops {
            all.enter()
            loop.shutdownGracefully(queue: queue) { _ in all.leave() }
        }
        all.notify(queue: queue) { callback(nil) }
    }
}
