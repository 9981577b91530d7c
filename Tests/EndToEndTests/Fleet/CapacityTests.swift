import HotKeyPeer
import HotKeyTestSupport
import Testing

extension EndToEnd.OnAFleet {
    @Suite struct Capacity {
        /// The absolute threshold of the rule is far out of reach; what its node can carry is measured while it is busy.
        @Test func aKeyIsHotByItsShareOfWhatItsNodeCanCarry() async throws {
            let fleet = try await sharedFleet()
            let key = "weak:key"
            try await fleet.agents[0].client().command("SET", key, "value")
            let (node, server) = try await fleet.home(of: key)
            // Commands that cost the node more than they cost whoever sends them, so that it is busy on a busy machine too.
            let work = ["EVAL", "local x = 0 for i = 1, 2000 do x = x + i end return x", "0"]
            let busy = Load.start(
                ports: [server.port], batch: Array(repeating: work, count: 100), pauseMilliseconds: 2)
            let load = Load.reading(key, expecting: "value", ports: fleet.appPorts, batch: 10, pauseMilliseconds: 5)
            try await fleet.waitUntilPublished(key)
            let explained = try await fleet.control("rules", "explain", key)
            #expect(explained.contains("/s that node \(node) can carry, as measured"), "\(explained)")
            let reason = try await fleet.control("get", key, "--explain")
            #expect(!reason.contains("times the 1000000/s"), "\(reason)")
            let leader = try await fleet.leader()
            let metrics = try PrometheusText(try await leader.http("/metrics").body)
            let capacities = metrics.families["hotkey_node_capacity"]?.samples ?? []
            #expect(capacities.contains { $0.sample.labels == ["node": node] && $0.value > 0 }, "\(capacities)")
            #expect(await load.stop().failures == [])
            #expect(await busy.stop().failures == [])
        }
    }
}
