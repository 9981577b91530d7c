import HotKeyPeer
import HotKeyTestSupport
import Testing

@testable import HotKeyScan

@Suite struct NodeWorkTests {
    @Test func aNodeTellsWhatItHasDoneAndHowLongItTook() async throws {
        let nobody = ScanNode(name: "b", address: .tcp(host: "127.0.0.1", port: try FreePort.next()))
        try await RedisServer.start().use { server in
            let node = ScanNode(name: "a", address: .tcp(host: "127.0.0.1", port: server.port))
            let scan = KeyspaceScan(KeyspaceScan.Configuration())
            let before = try #require(try await scan.work(of: [node]).first).get()
            let client = try await server.client()
            for _ in 0..<5 { _ = try await client.pipeline((0..<2_000).map { ["SET", "k\($0)", "v"] }) }
            let answers = try await scan.work(of: [nobody, node])
            let after = try answers[1].get()
            #expect(after.runID == before.runID && !after.runID.isEmpty)
            #expect(after.commandsProcessed >= before.commandsProcessed + 10_000)
            #expect(after.busySeconds > before.busySeconds)
            guard case .failure(let problem) = answers[0] else {
                Issue.record("\(answers[0])")
                return
            }
            #expect(problem.code == .unreachable)
            await client.close()
        }
    }

    @Test func aNodeThatKeepsInfoToItselfSaysSo() async throws {
        try await RedisServer.start().use { server in
            let client = try await server.client()
            _ = try await client.command("ACL", "SETUSER", "default", "-info")
            let node = ScanNode(name: "a", address: .tcp(host: "127.0.0.1", port: server.port))
            let answer = try await KeyspaceScan(KeyspaceScan.Configuration()).work(of: [node])[0]
            guard case .failure(let problem) = answer else {
                Issue.record("\(answer)")
                return
            }
            #expect(problem.code == .refused && problem.message.contains("INFO"), "\(problem)")
            await client.close()
        }
    }

    @Test(arguments: [
        "", "run_id:a\r\ntotal_commands_processed:5\r\nused_cpu_sys:1\r\nused_cpu_user:1\r\n",
        "run_id:a\r\ntotal_commands_processed:-5\r\nused_cpu_sys_main_thread:1\r\nused_cpu_user_main_thread:1\r\n",
        "run_id:a\r\ntotal_commands_processed:5\r\nused_cpu_sys_main_thread:nan\r\nused_cpu_user_main_thread:1\r\n",
    ])
    func whatIsNoAnswerIsNoWork(info: String) {
        #expect(NodeWork(info: info) == nil)
    }

    @Test func theFieldsAreThoseOfInfo() {
        let info =
            "# Server\r\nrun_id:ab\r\n# Stats\r\ntotal_commands_processed:5\r\nused_cpu_sys_main_thread:1.5\r\nused_cpu_user_main_thread:2\r\n"
        let work = NodeWork(info: info)
        #expect(work?.runID == "ab" && work?.commandsProcessed == 5 && work?.busySeconds == 3.5)
    }
}
