import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests {
    /// Values that are passed on while they arrive, before a Redis Cluster.
    @Suite struct ClusterLargeValues {
        private static func value(_ name: String, megabytes: Int) -> [UInt8] {
            Array((0..<megabytes * 64 * 1024).lazy.map { "\(name) \($0)".padded(to: 16) }.joined().utf8)
        }

        private static func set(_ client: RedisTestClient, _ key: String, _ value: [UInt8]) async throws
            -> RedisTestValue
        {
            try await client.send(raw: encode(words: [Array("SET".utf8), Array(key.utf8), value]))
            return try await client.receive()
        }

        @Test func theyPassUnchanged() async throws {
            let cluster = try await SharedCluster.cluster()
            // No more may be held than this.
            try await Rig.with(cluster: cluster, configure: { $0.heldRequestBytesMax = 2 * 1024 * 1024 }) { rig in
                try await rig.knowsSlots()
                let client = try await rig.client()
                for number in 0..<6 {
                    let (key, value) = ("clarge:\(number)", Self.value("v\(number)", megabytes: 5))
                    #expect(try await Self.set(client, key, value) == .ok)
                    #expect(try await client.command("STRLEN", key) == .integer(Int64(value.count)))
                    #expect(try await client.command("GET", key).bytes == value)
                    #expect(try await client.command("DEL", key) == .integer(1))
                }
                await client.close()
            }
        }

        /// As `aClientThatReadsNothingIsLetGoOnceOthersHaveWaited`; here every command is kept until its reply has come.
        @Test func aClientThatReadsNothingHoldsUpNobodyForEver() async throws {
            try await RedisCluster.start().use { cluster in
                try await Rig.with(
                    cluster: cluster, loops: 1,
                    configure: {
                        $0.outputBytesMax = 1024 * 1024
                        $0.requestTimeoutMilliseconds = 2_000
                    }
                ) { rig in
                    try await rig.knowsSlots()
                    let large = try await rig.key(ownedBy: cluster.nodes[0], of: cluster, "clarge")
                    let small = try await rig.key(ownedBy: cluster.nodes[0], of: cluster, "csmall")
                    let slow = try await rig.client()
                    let other = try await rig.client()
                    let value = Self.value("slow", megabytes: 40)
                    #expect(try await Self.set(slow, large, value) == .ok)
                    #expect(try await other.command("SET", small, "s") == .ok)
                    cluster.nodes[0].suspend()
                    let before = try await rig.server.statistics().requests
                    try await slow.send(raw: encode(["GET", large]))
                    try await eventually("the proxy has the large one first") {
                        try await rig.server.statistics().requests == before + 1
                    }
                    try await other.send(raw: encode(["GET", small]))
                    try await eventually("the proxy has both") {
                        try await rig.server.statistics().requests == before + 2
                    }
                    cluster.nodes[0].resume()
                    #expect(try await other.receive() == .text("s"))
                    #expect(try await slow.receiveRawToEnd().count < value.count)
                    await slow.close()
                    await other.close()
                }
            }
        }

        /// What has been passed on cannot be sent again by the agent. The client is told once; while the slot moves its next try is
        /// kept until it is known where it goes.
        @Test func aMovingSlotAsksForTheValueOnceMore() async throws {
            try await RedisCluster.start().use { cluster in
                try await Rig.with(cluster: cluster) { rig in
                    try await rig.knowsSlots()
                    let key = try await rig.key(ownedBy: cluster.nodes[0], of: cluster, "clarge")
                    let (slot, other) = (clusterSlot(key), cluster.nodes[1])
                    let client = try await rig.client()
                    let values = (0..<3).map { Self.value("m\($0)", megabytes: 3) }
                    try await cluster.beginMoving(slot: slot, to: other)
                    let told = try await Self.set(client, key, values[0]).errorMessage
                    #expect(told?.hasPrefix("TRYAGAIN the slot of this key is moving") == true, "\(told ?? "")")
                    #expect(try await client.command("EXISTS", key) == .integer(0))
                    #expect(try await Self.set(client, key, values[1]) == .ok)
                    #expect(try await client.command("GET", key).bytes == values[1])
                    try await cluster.endMoving(slot: slot, from: cluster.nodes[0], to: other)
                    // Whether the agent knows by then is a matter of luck.
                    var reply = try await Self.set(client, key, values[2])
                    if let told = reply.errorMessage {
                        #expect(told.hasPrefix("TRYAGAIN"), "\(told)")
                        reply = try await Self.set(client, key, values[2])
                    }
                    #expect(reply == .ok)
                    #expect(try await client.command("GET", key).bytes == values[2])
                    await client.close()
                }
            }
        }
    }
}

extension String {
    fileprivate func padded(to length: Int) -> String {
        self + String(repeating: ".", count: max(0, length - count))
    }
}
