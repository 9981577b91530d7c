import HotKeyPeer
import HotKeyRegistry
import ZooKeeper

/// One app's registry, connected.
struct Session: Sendable {
    let client: ZooKeeperClient
    let registry: RegistryOperator
    let options: GlobalOptions
    /// As whom this session authenticated.
    let login: DigestLogin?
    /// How agents are asked.
    let peerSecurity: PeerSecurity
    var paths: RegistryPaths { registry.paths }
    var app: String { paths.app.description }
}

extension GlobalOptions {
    /// Connects, finds out which app is meant, runs `body` and closes the connection.
    func withSession<Value: Sendable>(_ body: @Sendable (Session) async throws -> Value) async throws -> Value {
        var place = place
        do {
            let login = try security.login()
            place.login = .some(login)
            let peerSecurity = try peers.security()
            let configuration = try ZooKeeperConfiguration(
                connectString: servers, sessionTimeoutMilliseconds: ControlLimits.sessionTimeoutMilliseconds,
                operationTimeoutMilliseconds: timeoutMilliseconds,
                authentication: login.map { [$0.credential] } ?? [], tls: try security.tls())
            // Checked before anything is connected: a wrong root is wrong whether or not ZooKeeper runs.
            _ = try RegistryPaths(root: rootPath, app: appName ?? "any")
            return try await ZooKeeperClient.withClient(
                configuration, logger: WarningLog.silent, connectTimeoutMilliseconds: timeoutMilliseconds
            ) { client in
                let app: String
                if let appName { app = appName } else { app = try await onlyApp(client) }
                place.app = app
                let registry = try RegistryOperator(
                    store: client, paths: RegistryPaths(root: rootPath, app: app), author: Author.current,
                    logger: WarningLog.registry)
                return try await body(
                    Session(client: client, registry: registry, options: self, login: login, peerSecurity: peerSecurity)
                )
            }
        } catch {
            throw Failure.explain(error, at: place)
        }
    }

    /// The one app there is. Nothing is guessed when there are several.
    private func onlyApp(_ client: ZooKeeperClient) async throws -> String {
        var names: [String] = []
        do {
            names = try await client.children(rootPath).names.filter { (try? AppName($0)) != nil }.sorted()
        } catch let error as StoreError where error.code == .noNode {
            // No root, no app.
        }
        switch names.count {
        case 0:
            throw Failure(
                .failed, "No app is initialised under \(rootPath) at \(servers).",
                "To create one: hkctl --app NAME init --nodes NAME=HOST:PORT,… — or see that --root and --zookeeper are right."
            )
        case 1: return names[0]
        default:
            let listed = names.prefix(ControlLimits.listedMax).joined(separator: ", ")
            throw Failure(
                .usage, "Several apps are there: \(listed)\(names.count > ControlLimits.listedMax ? ", …" : "").",
                "Say which one is meant with --app NAME or HOTKEY_APP.")
        }
    }
}
