import HotKeyTestSupport
import Testing

@testable import RedisProxy

extension ProxyTests {
    @Suite struct ScanOrders {
        private func addresses(_ count: Int) -> [String] { (0..<count).map { "10.0.\($0 / 256).\($0 % 256):6379" } }

        /// Goes through the nodes as a client does, with so many steps at each.
        private func walk(_ order: ScanOrder, steps: Int) throws -> [Int] {
            var seen: [Int] = []
            var cursor: UInt64 = 0
            repeat {
                let place = try #require(order.place(of: cursor))
                seen.append(place.node)
                let next = place.cursor + 1
                cursor = try #require(order.cursor(after: place.node, next < UInt64(steps) ? next : 0))
            } while cursor != 0
            return seen
        }

        @Test(arguments: [1, 2, 3, 100, 1024])
        func everyNodeIsGoneThroughOnce(_ count: Int) throws {
            let order = ScanOrder(addresses: addresses(count))
            let seen = try walk(order, steps: 3)
            #expect(seen.count == 3 * count)
            for node in 0..<count { #expect(seen.count { $0 == node } == 3) }
            // All steps at one node come together.
            #expect(zip(seen, seen.dropFirst()).count { $0 != $1 } == count - 1)
        }

        /// Of a thousand nodes some have the same number at first.
        @Test func theOrderDoesNotDependOnTheOrderOfTheTopology() {
            let all = addresses(1024)
            let order = ScanOrder(addresses: all)
            let reversed = ScanOrder(addresses: all.reversed())
            for node in 0..<1024 {
                #expect(order.cursor(after: node, 5) == reversed.cursor(after: 1023 - node, 5))
                #expect(order.place(of: order.cursor(after: node, 5)!)?.node == node)
            }
        }

        /// Nodes come and go between two steps: those that stay are gone through, each to its end.
        @Test func aChangeOfTopologyLeavesOutNoNodeThatStays() throws {
            var random = SeededGenerator(printing: "scan order")
            for _ in 0..<2000 {
                var present = Set(addresses(12).shuffled(using: &random).prefix(Int.random(in: 1...8, using: &random)))
                var alwaysPresent = present
                var done: Set<String> = []
                var cursor: UInt64 = 0
                repeat {
                    if Int.random(in: 0..<3, using: &random) == 0 {
                        present = Set(
                            addresses(12).shuffled(using: &random).prefix(Int.random(in: 1...8, using: &random)))
                        alwaysPresent.formIntersection(present)
                    }
                    let list = present.shuffled(using: &random)
                    let order = ScanOrder(addresses: list)
                    guard let place = order.place(of: cursor) else { break }
                    let next: UInt64 = place.cursor < 3 ? place.cursor + 1 : 0
                    if next == 0 { done.insert(list[place.node]) }
                    cursor = try #require(order.cursor(after: place.node, next))
                } while cursor != 0
                #expect(alwaysPresent.isSubset(of: done))
            }
        }

        @Test func cursorsStayBelowWhatADoubleCanHold() throws {
            let order = ScanOrder(addresses: addresses(1024))
            for node in 0..<1024 {
                #expect(try #require(order.cursor(after: node, UInt64(UInt32.max))) < 1 << 53)
                #expect(order.cursor(after: node, 1 << 44) == nil)
            }
            #expect(order.place(of: .max) == nil || order.place(of: .max)?.cursor == 0)
            #expect(ScanOrder(addresses: []).place(of: 0) == nil)
        }

        @Test(
            arguments: [
                ("0", 0), ("17", 17), ("", 0), ("+5", 5), ("-1", UInt64.max), ("18446744073709551615", .max),
                ("007", 7),
                ("18446744073709551616", nil), ("x", nil), ("1x", nil), (" 1", nil), ("-", nil), ("1.5", nil),
            ] as [(String, UInt64?)])
        func cursorsAreReadAsRedisReadsThem(_ text: String, _ expected: UInt64?) {
            #expect(Array(text.utf8).withUnsafeBytes { ScanOrder.parse($0) } == expected)
        }
    }
}
