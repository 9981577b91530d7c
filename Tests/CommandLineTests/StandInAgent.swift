import HotKeyTestSupport

/// A registered agent that says what a test wants it to say: states that a real agent cannot be brought into on purpose.
/// It is registered with kazoo, by the documented schema, and speaks RESP over a real socket.
struct StandInAgent: Sendable {
    let process: SpawnedProcess
    let address: String

    /// - Parameter answers: JSON by command, such as `HK.STATUS`; nil accepts connections and never answers.
    static func start(_ hkctl: HKCtl, id: String, app: String = "shop", answers: [String: String]?) async throws
        -> StandInAgent
    {
        let arguments = (answers ?? [:]).flatMap { [$0.key, $0.value] }
        let process = try await SpawnedProcess.start(
            "/usr/bin/python3",
            [
                "-c", program, hkctl.zookeeper, "\(hkctl.root)/\(app)/agents/\(id)",
                answers == nil ? "silent" : "answers",
            ]
                + arguments)
        let line = try await process.waitForLine(containing: "listening ")
        return StandInAgent(process: process, address: String(line.dropFirst("listening ".count)))
    }

    func stop() async { await process.stop() }

    private static let program = """
        import json, socket, sys, threading
        from kazoo.client import KazooClient

        zookeeper, node, mode = sys.argv[1:4]
        answers = dict(zip(sys.argv[4::2], sys.argv[5::2]))
        server = socket.create_server(("127.0.0.1", 0))

        def serve(connection):
            stream = connection.makefile("rwb")
            while header := stream.readline():
                words = []
                for _ in range(int(header[1:])):
                    length = int(stream.readline()[1:])
                    words.append(stream.read(length + 2)[:-2])
                if mode == "silent":
                    continue
                answer = answers.get(words[0].decode())
                if answer is None:
                    stream.write(b"-ERR unknown command\\r\\n")
                else:
                    stream.write(b"$%d\\r\\n%s\\r\\n" % (len(answer.encode()), answer.encode()))
                stream.flush()

        def accept():
            while True:
                threading.Thread(target=serve, args=server.accept()[:1], daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        address = "127.0.0.1:%d" % server.getsockname()[1]
        # A killed one is to be found registered, however long hkctl takes to start.
        client = KazooClient(zookeeper, timeout=60.0)
        client.start(timeout=60)
        document = {"schema": 1, "peer": address, "version": "0.1.0", "startedAt": "2026-11-22T10:00:00Z"}
        client.create(node, json.dumps(document).encode(), ephemeral=True)
        print("listening " + address, flush=True)
        threading.Event().wait()
        """

    static func status(id: String, version: Int, view: String = "fresh", nodes: String = "[]", staleness: String? = nil)
        -> String
    {
        """
        {"id":"\(id)","app":"shop","version":"0.1.0","startedAt":"2026-11-22T10:00:00Z","uptimeSeconds":3725,\
        "mode":"mitigate","leadership":"leader","view":{"state":"\(view)","ageMilliseconds":65000,"epoch":1,\
        "version":\(version)},"hotKeys":3,"localHotKeys":1,"reportEpoch":1,"reportSequence":9,"nodes":\(nodes),\
        "counters":{"requests":1,"localHits":1,"copyReads":0,"hotHomeReads":0,"staleAnswers":0,"hotWrites":0,\
        "breakerRejections":0,"clients":0,"cacheBytes":0}\(staleness.map { ",\"staleness\":\($0)" } ?? "")}
        """
    }

    static let route = """
        {"key":"item:42","home":{"name":"a","address":"127.0.0.1:7001"},"copies":[{"name":"b","address":"127.0.0.1:7002"}],\
        "readableCopies":[],"isHot":true,"reading":"copies"}
        """

    static let key = """
        {"key":"item:42","state":"hot","kind":"read","readsPerSecond":5230.4,"copies":3,"sources":["agents"],\
        "action":"both","isLocalDecision":true}
        """
}
