import HotKeyTestSupport

/// What another ZooKeeper client does to an app's nodes, past our tools.
struct Kazoo: Sendable {
    let hkctl: HKCtl
    /// `user:password`; nil: it does not authenticate.
    var login: String?

    /// Runs Python with `zk`, a connected client, and `app`, the app's node. Ends with what it printed.
    @discardableResult
    func run(_ script: String) async throws -> String {
        let outcome = try await SpawnedProcess.run(
            "/usr/bin/python3", ["-c", Self.head + script, hkctl.zookeeper, "\(hkctl.root)/shop", login ?? ""])
        guard outcome.status == 0 else { throw Unexpected("kazoo: \(outcome)") }
        return outcome.standardOutput
    }

    /// As ``run(_:)``, and the session stays until the process is stopped. The script has to print "ready".
    func hold(_ script: String) async throws -> SpawnedProcess {
        let process = try await SpawnedProcess.start(
            "/usr/bin/python3",
            [
                "-c", Self.head + script + "\nimport threading; threading.Event().wait()", hkctl.zookeeper,
                "\(hkctl.root)/shop", login ?? "",
            ])
        _ = try await process.waitForLine(containing: "ready")
        return process
    }

    private static let head = """
        import json, sys
        from kazoo.client import KazooClient
        from kazoo.exceptions import NoAuthError
        from kazoo.security import make_acl, make_digest_acl
        servers, app, login = sys.argv[1:4]
        zk = KazooClient(servers, auth_data=[("digest", login)] if login else None)
        zk.start()

        """
}
