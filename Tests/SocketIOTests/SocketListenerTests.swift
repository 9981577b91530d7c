import Glibc
import HotKeyTestSupport
import NIOCore
import Testing

@testable import SocketIO

@Suite struct SocketListeners {
    /// Counts what it is given, and closes it.
    private final class Door: SocketListenerHandler, Sendable {
        let accepted = Guarded(0)
        let failures = Guarded<[CInt]>([])
        let isOpen = Guarded(true)

        func accepted(_ descriptor: CInt) {
            accepted.update { $0 += 1 }
            close(descriptor)
        }

        func acceptFailed(_ error: IOError) { failures.update { $0.append(error.errnoCode) } }
        var mayAccept: Bool { isOpen.now }
    }

    private func listen(_ door: Door, on loop: SocketEventLoop) async throws -> (
        port: Int, NIOLoopBound<SocketListener>
    ) {
        let bound = try await SocketListener.bind(host: "127.0.0.1", port: 0, backlog: 128)
        let listener = try await loop.submit {
            NIOLoopBound(
                try SocketListener(
                    descriptor: bound.descriptor, eventLoop: loop, options: TCPOptions(), pauseMilliseconds: 10,
                    handler: door), eventLoop: loop)
        }.get()
        return (try #require(bound.address.port), listener)
    }

    private func connect(
        _ host: String, _ port: Int, on loop: SocketEventLoop, milliseconds: Int64 = 10_000,
        check: @escaping @Sendable () throws -> Void = {}
    ) async throws -> CInt {
        let promise = loop.makePromise(of: CInt.self)
        try await loop.submit {
            _ = SocketConnector.connect(
                host: host, port: port, on: loop, timeoutMilliseconds: milliseconds, options: TCPOptions(),
                check: check, completion: { promise.completeWith($0) })
        }.get()
        return try await promise.futureResult.get()
    }

    @Test(arguments: ["127.0.0.1", "localhost"])
    func takesWhoConnects(_ host: String) async throws {
        try await withLoop { loop in
            let door = Door()
            let (port, listener) = try await listen(door, on: loop)
            for _ in 0..<20 { close(try await connect(host, port, on: loop)) }
            try await eventually("all are in") { door.accepted.now == 20 }
            try await loop.submit { listener.value.close() }.get()
            let error = await #expect(throws: ConnectError.self) { try await connect("127.0.0.1", port, on: loop) }
            #expect(error?.errors.map(\.errnoCode) == [ECONNREFUSED])
        }
    }

    @Test func takesNobodyWhileItMayNot() async throws {
        try await withLoop { loop in
            let door = Door()
            door.isOpen.update { $0 = false }
            let (port, _) = try await listen(door, on: loop)
            close(try await connect("127.0.0.1", port, on: loop))
            // The first is taken before it is asked; after it there is a pause, and another.
            try await eventually("the first is in") { door.accepted.now == 1 }
            close(try await connect("127.0.0.1", port, on: loop))
            try await loop.scheduleTask(in: .milliseconds(50)) {}.futureResult.get()
            #expect(door.accepted.now == 1)
            door.isOpen.update { $0 = true }
            try await eventually("the second is in") { door.accepted.now == 2 }
        }
    }

    /// Who has the same socket open may shut it down for all: it is readable for ever then.
    @Test func endsWhenSomebodyElseShutsItDown() async throws {
        try await withLoop { loop in
            let door = Door()
            let bound = try await SocketListener.bind(host: "127.0.0.1", port: 0, backlog: 128)
            let other = dup(bound.descriptor)
            defer { close(other) }
            let listener = try await loop.submit {
                NIOLoopBound(
                    try SocketListener(
                        descriptor: bound.descriptor, eventLoop: loop, options: nil, pauseMilliseconds: 10,
                        handler: door), eventLoop: loop)
            }.get()
            shutdown(other, CInt(SHUT_RDWR))
            try await eventually("it has ended") { try await loop.submit { !listener.value.isOpen }.get() }
            #expect(door.failures.now.isEmpty)
        }
    }

    @Test func aConnectThatIsGivenUpEndsAtOnce() async throws {
        let full = try await SocketListener.bind(host: "127.0.0.1", port: 0, backlog: 0)
        defer { close(full.descriptor) }
        let port = try #require(full.address.port)
        try await withLoop { loop in
            let completed = Guarded(0)
            let taken = Guarded(0)
            try await loop.submit {
                let connectors = (0..<8).map { _ in
                    SocketConnector.connect(
                        host: "127.0.0.1", port: port, on: loop, timeoutMilliseconds: 3_600_000, options: TCPOptions(),
                        check: { taken.update { $0 += 1 } }, completion: { _ in completed.update { $0 += 1 } })
                }
                loop.execute { [connectors = NIOLoopBound(connectors, eventLoop: loop)] in
                    for connector in connectors.value { connector.cancel() }
                }
            }.get()
            try await loop.submit {}.get()
            try await loop.submit {}.get()
            #expect(taken.now == 8 && completed.now == 0)
        }
    }

    /// The loop ends while some are on their way: each is told, also one that begins only then.
    @Test func theEndOfTheEventLoopEndsWhatIsOnItsWay() async throws {
        let full = try await SocketListener.bind(host: "127.0.0.1", port: 0, backlog: 0)
        defer { close(full.descriptor) }
        let port = try #require(full.address.port)
        let failures = Guarded(0)
        let successes = Guarded<[CInt]>([])
        let completion: @Sendable (Result<CInt, any Error>) -> Void = { result in
            switch result {
            case .success(let descriptor): successes.update { $0.append(descriptor) }
            case .failure: failures.update { $0 += 1 }
            }
        }
        try await withLoop { loop in
            for host in ["127.0.0.1", "127.0.0.1", "127.0.0.1", "localhost"] {
                try await loop.submit {
                    _ = SocketConnector.connect(
                        host: host, port: port, on: loop, timeoutMilliseconds: 3_600_000, options: TCPOptions(),
                        check: {}, completion: completion)
                }.get()
            }
        }
        try await eventually("each has been told") { failures.now + successes.now.count == 4 }
        for descriptor in successes.now { close(descriptor) }
    }

    @Test func saysWhyItCannotListen() async throws {
        let first = try await SocketListener.bind(host: "127.0.0.1", port: 0, backlog: 1)
        defer { close(first.descriptor) }
        let error = await #expect(throws: IOError.self) {
            _ = try await SocketListener.bind(
                host: "127.0.0.1", port: try #require(first.address.port), backlog: 1)
        }
        #expect(error?.errnoCode == EADDRINUSE)
        await #expect(throws: ResolveError.self) {
            _ = try await SocketListener.bind(host: "no-such-host.invalid", port: 0, backlog: 1)
        }
    }

    @Test func aHostThatIsNotFoundIsNoShortage() async throws {
        try await withLoop { loop in
            let error = await #expect(throws: ConnectError.self) {
                try await connect("no-such-host.invalid", 1, on: loop)
            }
            #expect(error?.errors.isEmpty == true)
            #expect(error?.description.contains("no-such-host.invalid") == true)
        }
    }

    /// A queue that is full takes nobody: the connection hangs until the time is over.
    @Test func givesUpWhenTheTimeIsOver() async throws {
        let full = try await SocketListener.bind(host: "127.0.0.1", port: 0, backlog: 0)
        defer { close(full.descriptor) }
        let port = try #require(full.address.port)
        try await withLoop { loop in
            var held: [CInt] = []
            var failure: ConnectError?
            while failure == nil, held.count < 64 {
                do { held.append(try await connect("127.0.0.1", port, on: loop, milliseconds: 200)) } catch let error
                    as ConnectError
                {
                    failure = error
                }
            }
            #expect(failure?.errors.map(\.errnoCode) == [ETIMEDOUT])
            held.forEach { close($0) }
        }
    }

    @Test func whatIsCheckedBeforeConnectingEndsIt() async throws {
        struct Refused: Error {}
        try await withLoop { loop in
            await #expect(throws: Refused.self) {
                try await connect("127.0.0.1", 1, on: loop) { throw Refused() }
            }
        }
    }
}
