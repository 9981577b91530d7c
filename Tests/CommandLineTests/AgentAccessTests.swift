import Foundation
import HotKeyTestSupport
import Testing

/// Real agents on a registry that is restricted by role.
@Suite struct AgentAccessTests {
    private func start(_ roles: Roles, as user: String?, id: String) async throws -> (SpawnedProcess, admin: Int) {
        let admin = try FreePort.next()
        var arguments = [
            "run", "--app", "shop", "--zookeeper", roles.hkctl.zookeeper, "--root", roles.hkctl.root, "--id", id,
            "--threads",
            "1", "--listen", "127.0.0.1:0", "--peer", "127.0.0.1:0", "--admin", "127.0.0.1:\(admin)",
        ]
        if let user { arguments += ["--zookeeper-digest-file", roles.directory.file(user)] }
        return (try await SpawnedProcess.start(BinaryLocator.path("hkagent"), arguments), admin)
    }

    @Test func anAgentRegistersLeadsAndPublishesWithItsRoleAndItsNodesCarryTheRolesLists() async throws {
        let roles = try await Roles()
        let ann = roles.by("ann")
        try await ann.done("init", "--nodes", AccessTests.nodes, "--acl", roles.file)
        let (agent, _) = try await start(roles, as: "agent", id: "host-1")
        try await eventually("the agent leads") {
            guard agent.isRunning else { throw Unexpected(agent.allOutput) }
            return try await ann.json("agents")["leader"] == "host-1"
        }
        // The lists of what it created are compared too.
        try await eventually("nothing is wrong") { try await ann.run("doctor").status == 0 }
        let report = try await ann.json("doctor")
        #expect(report["agents"] == 1 && report["findings"]?.items.isEmpty == true, "\(report)")

        // The roles change under it: its nodes are given the new lists, and it goes on.
        try await ann.done(
            "acl", "apply", "-",
            input: try await ann.done("acl", "show", "--output", "json")
                .replacingOccurrences(of: "\"anyoneMayRead\" : false", with: "\"anyoneMayRead\" : true"))
        #expect(try await roles.by(nil).json("agents")["leader"] == "host-1")
        #expect(try await ann.json("doctor")["healthy"] == true)
        #expect(!Roles.secrets.contains { agent.allOutput.contains($0) })
        for trouble in ["cannot register", "ensemble's time could not be measured"] {
            #expect(!agent.allOutput.contains(trouble), "\(agent.allOutput)")
        }
        #expect(await agent.stop() == .exited(0))
    }

    @Test(arguments: ["bob", nil] as [String?])
    func anAgentWithoutTheRoleSaysSoAndGoesOnWhenItIsGiven(user: String?) async throws {
        let roles = try await Roles()
        let ann = roles.by("ann")
        try await ann.done("init", "--nodes", AccessTests.nodes, "--acl", roles.file)
        let (agent, admin) = try await start(roles, as: user, id: "host-1")
        try await eventually("the refusal is logged") {
            agent.allOutput.contains("this agent cannot register; trying again")
        }
        if user == nil {
            // Not even the topology can be read, so it serves nothing and says why.
            let ready = try await SpawnedProcess.run("/usr/bin/curl", ["-s", "http://127.0.0.1:\(admin)/readyz"])
            #expect(ready.standardOutput.contains("The agent needs the role agent: it does not authenticate"))
        }
        #expect(try await ann.json("agents")["agents"]?.items.isEmpty == true)
        try await ann.done("acl", "apply", "--open")
        try await eventually("the agent leads") { try await ann.json("agents")["leader"] == "host-1" }
        #expect(await agent.stop() == .exited(0))
    }
}
