import Glibc
import HotKeyTestSupport
import NIOCore
import Testing

@testable import SocketIO

@Suite struct SocketConnections {
    @Test func passesBytesBothWays() async throws {
        try await withLoop { loop in
            let pair = try await Pair(on: loop)
            pair.sendFar(pattern(300_000))
            try await eventually("everything has come") { pair.seen.now.bytes.count == 300_000 }
            #expect(pair.seen.now.bytes == pattern(300_000))
            try await pair.onLoop { $0.writeAndFlush(ByteBuffer(bytes: [1, 2, 3])) }
            #expect(pair.receiveFar(3) == [1, 2, 3])
        }
    }

    /// What is left over comes again, in front of what follows; also when it is more than is moved.
    @Test(arguments: [1000, 50_000])
    func whatIsLeftUnreadComesAgain(_ unit: Int) async throws {
        try await withLoop { loop in
            let pair = try await Pair(on: loop) { $0 / unit * unit }
            let bytes = pattern(4 * unit)
            var sent = 0
            while sent < bytes.count {
                let part = bytes[sent..<min(bytes.count, sent + 777)]
                pair.sendFar(Array(part))
                sent += part.count
            }
            try await eventually("everything has come") { pair.seen.now.bytes.count == bytes.count }
            #expect(pair.seen.now.bytes == bytes)
        }
    }

    @Test func doesNotReadWhileTheOtherSideIsToWait() async throws {
        try await withLoop { loop in
            let pair = try await Pair(on: loop)
            try await pair.onLoop { $0.setReading(false) }
            pair.sendFar([7])
            // Whatever is to come of it has come when another connection, registered later, has been served.
            let other = try await Pair(on: loop)
            other.sendFar([8])
            try await eventually("the other one has been read") { other.seen.now.bytes == [8] }
            #expect(pair.seen.now.bytes.isEmpty)
            try await pair.onLoop { $0.setReading(true) }
            try await eventually("it has been read") { pair.seen.now.bytes == [7] }
        }
    }

    /// Otherwise a client that has gone would keep its place as long as it is made to wait.
    @Test func seesTheEndWhileTheOtherSideIsToWait() async throws {
        try await withLoop { loop in
            let pair = try await Pair(on: loop)
            try await pair.onLoop { $0.setReading(false) }
            pair.sendFar([1, 2])
            shutdown(pair.far, CInt(SHUT_WR))
            try await eventually("the end has been seen") { pair.seen.now.inputEnds == 1 }
            #expect(pair.seen.now.bytes == [1, 2])
            // It may still be answered.
            try await pair.onLoop { $0.writeAndFlush(ByteBuffer(bytes: [9])) }
            #expect(pair.receiveFar(1) == [9])
            #expect(pair.seen.now.ends.isEmpty)
        }
    }

    @Test func endsWithTheOtherSideWhereHalfIsNotAllowed() async throws {
        try await withLoop { loop in
            let pair = try await Pair(on: loop, allowsHalfClosure: false)
            shutdown(pair.far, CInt(SHUT_WR))
            try await eventually("it has ended") { pair.seen.now.ends == ["closed"] && pair.seen.now.closes == 1 }
            #expect(pair.seen.now.inputEnds == 0)
        }
    }

    /// More than the socket takes is kept and sent in order; meanwhile it says that it is not writable.
    @Test func keepsWhatTheSystemDoesNotTake() async throws {
        try await withLoop { loop in
            let pair = try await Pair(on: loop)
            let part = pattern(100_000)
            let waiting = try await pair.onLoop { connection in
                connection.writeAndFlush(ByteBuffer(bytes: part))
                for _ in 0..<79 { connection.write(ByteBuffer(bytes: part)) }
                connection.flush()
                return (connection.unsentBytes, connection.isWritable)
            }
            #expect(waiting.0 > 0 && !waiting.1)
            let received = pair.receiveFar(80 * part.count)
            #expect(received.count == 80 * part.count)
            #expect(
                stride(from: 0, to: received.count, by: part.count).allSatisfy {
                    received[$0..<$0 + part.count].elementsEqual(part)
                })
            try await eventually("it is writable again") { pair.seen.now.writability == [false, true] }
            #expect(try await pair.onLoop { $0.unsentBytes } == 0)
        }
    }

    @Test func closesOnlyWhenEverythingHasBeenSent() async throws {
        try await withLoop { loop in
            let pair = try await Pair(on: loop)
            let bytes = pattern(2_000_000)
            try await pair.onLoop { connection in
                connection.writeAndFlush(ByteBuffer(bytes: bytes))
                connection.closeAfterWrites()
            }
            #expect(pair.receiveFar(bytes.count + 1) == bytes)
            try await eventually("it has ended") { pair.seen.now.ends == ["closed"] }
        }
    }

    @Test func endsItsOutputOnlyWhenEverythingHasBeenSent() async throws {
        try await withLoop { loop in
            let pair = try await Pair(on: loop)
            let bytes = pattern(2_000_000)
            try await pair.onLoop { connection in
                connection.writeAndFlush(ByteBuffer(bytes: bytes))
                connection.endOutputAfterWrites()
            }
            #expect(pair.receiveFar(bytes.count + 1) == bytes)
            pair.sendFar([5])
            try await eventually("it still reads") { pair.seen.now.bytes == [5] }
            #expect(pair.seen.now.ends.isEmpty)
        }
    }

    /// The writer is in the middle of something: it is told afterwards, once, and what the other side said before is read.
    @Test func tellsOfABrokenConnectionOnce() async throws {
        try await withLoop { loop in
            let pair = try await Pair(on: loop)
            try await pair.onLoop { connection in
                pair.sendFar([7])
                shutdown(pair.far, CInt(SHUT_RDWR))
                connection.writeAndFlush(ByteBuffer(bytes: [1]))
                connection.writeAndFlush(ByteBuffer(bytes: [2]))
                #expect(connection.isOpen && pair.seen.now.ends.isEmpty)
            }
            try await eventually("it has ended") { pair.seen.now.closes == 1 }
            #expect(pair.seen.now.bytes == [7])
            try await pair.onLoop { connection in
                connection.close()
                connection.write(ByteBuffer(bytes: [3]))
                connection.flush()
                connection.setReading(false)
            }
            #expect(pair.seen.now.ends.count == 1 && pair.seen.now.closes == 1)
        }
    }

    /// Who lingers to be heard must not be cut off by a message that comes too late.
    @Test func whatIsWrittenBehindTheEndOfOutputIsDropped() async throws {
        try await withLoop { loop in
            let pair = try await Pair(on: loop)
            try await pair.onLoop { connection in
                connection.writeAndFlush(ByteBuffer(bytes: [1]))
                connection.endOutputAfterWrites()
                connection.writeAndFlush(ByteBuffer(bytes: [2]))
                connection.write(ByteBuffer(bytes: [3]))
                connection.flush()
            }
            #expect(pair.receiveFar(10) == [1])
            pair.sendFar([5])
            try await eventually("it still reads") { pair.seen.now.bytes == [5] }
            #expect(pair.seen.now.ends.isEmpty)
        }
    }

    /// A handler may end its connection, or have it wait, in the middle of being handed bytes.
    @Test func aHandlerMayEndItsConnection() async throws {
        try await withLoop { loop in
            let own = Guarded<Pair?>(nil)
            let pair = try await Pair(on: loop) { count in
                own.now?.connection.close()
                return count
            }
            own.update { $0 = pair }
            pair.sendFar([1])
            try await eventually("it has ended") { pair.seen.now.closes == 1 }
            own.update { $0 = nil }
            #expect(pair.seen.now.bytes == [1] && pair.seen.now.ends == ["closed"])
        }
    }

    /// Two sockets of one turn: the first one's handler closes the second, whose number goes to a third. What the system has
    /// reported of the second, its end, is not the third's.
    @Test func anEventIsNotTakenForAnothersDescriptor() async throws {
        let reused = Guarded(0)
        for _ in 0..<50 {
            try await withLoop { loop in
                let third = Guarded<Pair?>(nil)
                let second = try await Pair(on: loop)
                let first = try await Pair(on: loop) { count in
                    second.connection.close()
                    third.update { $0 = try? Pair(here: loop) }
                    if third.now?.near == second.near { reused.update { $0 += 1 } }
                    return count
                }
                try await loop.submit {
                    first.sendFar([1])
                    shutdown(second.far, CInt(SHUT_RDWR))
                }.get()
                try await eventually("the second has been replaced") { third.now != nil }
                let replaced = try #require(third.now)
                replaced.sendFar([3])
                try await eventually("the third has been read") { replaced.seen.now.bytes == [3] }
                #expect(replaced.seen.now.ends.isEmpty)
            }
        }
        #expect(reused.now > 0, "the third socket never had the number of the second")
    }

    @Test func endsWithItsEventLoop() async throws {
        let pair = try await withLoop { try await Pair(on: $0) }
        #expect(pair.seen.now.closes == 1)
        #expect(pair.receiveFar(1) == [])
    }
}
