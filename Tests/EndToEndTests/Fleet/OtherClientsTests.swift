import HotKeyPeer
import HotKeyTestSupport
import Testing

extension EndToEnd.OnAFleet {
    /// Clients that know nothing of this project.
    @Suite struct OtherClients {
        @Test func kazooReadsEveryDocument() async throws {
            let fleet = try await sharedFleet()
            try await fleet.control("pin", "read:pinned", "--ttl", "10m", "--reason", "for kazoo")
            try await fleet.control("deny", "read:denied")
            try await fleet.agents[0].client().command("SET", "warm:read", "value")
            let load = Load.reading(
                "warm:read", expecting: "value", ports: fleet.appPorts, batch: 5, pauseMilliseconds: 5)
            try await fleet.waitUntilPublished("warm:read")
            #expect(await load.stop().failures == [])
            let count = try await Python.run(
                Python.readEveryDocument, fleet.zookeeper.connectString, "/hotkeys/\(fleet.app)",
                fleet.agents.map(\.id).joined(separator: ","))
            figure("kazoo read \(count.split(separator: "\n").last ?? "") documents")
            try await fleet.control("unpin", "read:pinned")
            try await fleet.control("undeny", "read:denied")
        }

        @Test func aPinWrittenWithKazooIsApplied() async throws {
            let fleet = try await sharedFleet()
            try await Python.run(
                Python.pin, fleet.zookeeper.connectString, "/hotkeys/\(fleet.app)", "kazoo:pinned")
            try await fleet.waitFor("kazoo:pinned", "pinned") { $0.state == "pinned" && $0.copies == 2 }
            for agent in fleet.agents {
                #expect(try await agent.key("kazoo:pinned").reason == "by kazoo")
                // A key that is not UTF-8, written as {"b64":"…"}.
                let binary = [0xff, 0x00] + Array("kazoo:pinned".utf8)
                #expect(try await agent.ask { try await $0.get(binary) }.state == "pinned")
                #expect(try await agent.list().keys.contains { $0.key.bytes == binary })
            }
            try await fleet.control("unpin", "kazoo:pinned")
            try await fleet.waitFor("kazoo:pinned", "cold") { $0.state == "cold" }
        }

        @Test func redisClientsWorkUnchanged() async throws {
            let fleet = try await sharedFleet()
            try await fleet.control("pin", "py:hot")
            try await fleet.waitFor("py:hot", "pinned") { $0.state == "pinned" }
            #expect(try await Python.run(Python.redisClient, "\(fleet.agents[1].appPort)") == "done\n")
            #expect(try await fleet.agents[1].status().counters.hotWrites >= 200)
            try await fleet.control("unpin", "py:hot")
        }
    }
}
