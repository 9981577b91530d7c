import HotKeyDetection
import HotKeyScan
import RESP
import ZooKeeper

extension Setting {
    private typealias Agent = AgentConfiguration

    /// Every setting, in the order in which help and documentation show them.
    public static let all: [Setting] =
        identity + listeners + security + zookeeper + standalone + dataPath + detection + operation

    private static let identity = [
        Setting(
            "app", \Agent.app, .app, isRequired: true,
            "The app whose hot keys this agent finds and serves: a znode under the root."),
        Setting(
            "id", \Agent.id, .agentID, default: "the host's name",
            "What the agent is called in the registry; no two agents of an app may share it."),
        Setting(
            "coordinator", \Agent.coordinator, .choice,
            """
            auto: stand for election as coordinator; never: do not; only: stand for election and serve no apps \
            (the app listener is not opened).
            """),
        Setting(
            "threads", \Agent.threads, .integer(1...1024), default: "the number of cores",
            "Event loops; each has its own connections to the cache nodes."),
        Setting(
            "stateDir", \Agent.stateDirectory, SettingType.absolutePath("DIR").optional,
            """
            A directory of this agent's own in which it keeps its last view. Without one, an agent that starts while \
            ZooKeeper is down serves nothing until it is back.
            """),
    ]

    private static let listeners = [
        Setting("listen", \Agent.listen, .listenAddress, "Where apps connect, with any Redis client."),
        Setting(
            "listenMode", \Agent.listenMode, .permissions,
            "The permissions of the Unix socket that apps connect to: connecting needs the right to write."),
        Setting(
            "listenGroup", \Agent.listenGroup, SettingType.group.optional, default: "the process's own",
            "The group of that socket; the agent's user has to be in it."),
        Setting("peer", \Agent.peer, .listener, "Where other agents and tools connect: HK. commands only."),
        Setting(
            "advertisePeer", \Agent.advertisePeer, SettingType.remote.optional,
            default: "what the peer listener is bound to",
            """
            The peer address that others are told through the registry; required when peer is bound to all addresses, or to \
            loopback with ZooKeeper on another host.
            """),
        Setting("admin", \Agent.admin, .listenAddress, "HTTP: /healthz, /readyz, /metrics."),
    ]

    private static let security = [
        Setting(
            "passwordFile", \Agent.ListenSecurity.passwordFile, SettingType.absolutePath("FILE").optional,
            flag: "listen-password-file", namesSecret: true,
            """
            A file of passwords that apps may log in with as the user default, one on a line, which others than its owner and group \
            cannot read. With it or usersFile, AUTH is the agent's matter and reaches no cache node.
            """),
        Setting(
            "usersFile", \Agent.ListenSecurity.usersFile, SettingType.absolutePath("FILE").optional,
            flag: "listen-users-file", namesSecret: true,
            """
            A file of lines USER:PASSWORD, for apps that log in as users of their own; a password may stand as # and its SHA-256.
            """),
        Setting(
            "tlsCertificateFile", \Agent.ListenSecurity.tlsCertificateFile, SettingType.absolutePath("FILE").optional,
            flag: "listen-tls-certificate-file",
            "PEM: the app listener's certificate and its chain. With tlsKeyFile it switches TLS on; there is no plain TCP then."
        ),
        Setting(
            "tlsKeyFile", \Agent.ListenSecurity.tlsKeyFile, SettingType.absolutePath("FILE").optional,
            flag: "listen-tls-key-file",
            "PEM: its key, without a passphrase; others than its owner and group cannot read it."
        ),
        Setting(
            "tlsClientCaFile", \Agent.ListenSecurity.tlsClientCaFile, SettingType.absolutePath("FILE").optional,
            flag: "listen-tls-client-ca-file",
            "PEM: with it, apps have to show a certificate that this authority has signed."),
        Setting(
            "allowUnauthenticated", \Agent.ListenSecurity.allowUnauthenticated, .boolean,
            flag: "listen-allow-unauthenticated",
            "Let other hosts in without asking who they are. Without it, listen beyond loopback needs one of the above."
        ),
        Setting(
            "passwordFile", \Agent.PeerSecurity.passwordFile, SettingType.absolutePath("FILE").optional,
            flag: "peer-password-file", namesSecret: true,
            """
            A file with the password that agents and tools of the fleet share, which others than its owner and group cannot read. Of \
            several lines all are accepted and the first is sent. peer beyond loopback needs it or client certificates.
            """),
        Setting(
            "tlsCertificateFile", \Agent.PeerSecurity.tlsCertificateFile, SettingType.absolutePath("FILE").optional,
            flag: "peer-tls-certificate-file",
            """
            PEM: the agent's certificate and its chain, for its peer listener and for other agents'. This, tlsKeyFile and tlsCaFile \
            together switch TLS on, for both.
            """),
        Setting(
            "tlsKeyFile", \Agent.PeerSecurity.tlsKeyFile, SettingType.absolutePath("FILE").optional,
            flag: "peer-tls-key-file",
            "PEM: its key, without a passphrase; others than its owner and group cannot read it."),
        Setting(
            "tlsCaFile", \Agent.PeerSecurity.tlsCaFile, SettingType.absolutePath("FILE").optional,
            flag: "peer-tls-ca-file", "PEM: the authority that signed the agents' certificates."),
        Setting(
            "tlsServerName", \Agent.PeerSecurity.tlsServerName, SettingType.serverName.optional,
            flag: "peer-tls-server-name", default: "the host that is dialled",
            "What other agents' certificates must be for."),
        Setting(
            "requireClientCertificates", \Agent.PeerSecurity.requireClientCertificates, .boolean,
            flag: "peer-require-client-certificates",
            "Whoever connects to the peer listener has to show a certificate that tlsCaFile has signed."),
    ]

    private static let zookeeper = [
        Setting(
            "servers", \Agent.ZooKeeper.servers, .servers, flag: "zookeeper", isRequired: true,
            "The ensemble's servers. In the file a list, or one text with commas."),
        Setting("root", \Agent.ZooKeeper.root, .znodePath, flag: "root", "The znode above all apps."),
        Setting(
            "sessionTimeoutMilliseconds", \Agent.ZooKeeper.sessionTimeoutMilliseconds,
            .integer(ZooKeeperLimits.sessionTimeoutMillisecondsRange),
            "After this long without contact the ensemble drops the agent's session; it may bound what it is asked for."
        ),
        Setting(
            "digestFile", \Agent.ZooKeeper.digestFile, SettingType.absolutePath("FILE").optional, namesSecret: true,
            """
            A file with one line, USER:PASSWORD, to authenticate with (scheme digest), which others than its owner and \
            group cannot read. The variable HOTKEY_ZOOKEEPER_AUTH may hold the line itself instead. Without either the \
            session does not authenticate.
            """),
        Setting(
            "tlsCaFile", \Agent.ZooKeeper.tlsCaFile, SettingType.absolutePath("FILE").optional,
            """
            PEM: the authority that signed the servers' certificates. This, tlsCertificateFile and tlsKeyFile together \
            switch TLS on; the installed libzookeeper_mt has to have it, Debian's has not.
            """),
        Setting(
            "tlsCertificateFile", \Agent.ZooKeeper.tlsCertificateFile, SettingType.absolutePath("FILE").optional,
            "PEM: the agent's certificate and its chain."),
        Setting(
            "tlsKeyFile", \Agent.ZooKeeper.tlsKeyFile, SettingType.absolutePath("FILE").optional,
            "PEM: the agent's key."),
        Setting(
            "tlsPassphraseFile", \Agent.ZooKeeper.tlsPassphraseFile, SettingType.absolutePath("FILE").optional,
            namesSecret: true,
            "A file with one line, the passphrase of the key, which others than its owner and group cannot read."),
    ]

    private static let standalone = [
        Setting(
            "standalone", \Agent.standalone, .boolean,
            """
            Run by itself, with a registry in memory instead of ZooKeeper: one host, nothing shared, nothing kept. Needs \
            nodes; app and zookeeper are not needed.
            """),
        Setting(
            "nodes", \Agent.nodes, .cacheNodes, default: "none",
            "The cache nodes of an agent that runs by itself. In the file a list, or one text with commas."),
        Setting(
            "rulesFile", \Agent.rulesFile, SettingType.file.optional, flag: "rules",
            default: "the rules that `hkctl init` writes",
            "The rules of an agent that runs by itself, as `hkctl rules apply` takes them."),
    ]

    private static let dataPath = [
        Setting(
            "connectionsPerNode", \Agent.Upstream.connectionsPerNode, .integer(1...64),
            "Connections of each event loop to each cache node."),
        Setting(
            "requestTimeoutMilliseconds", \Agent.Upstream.requestTimeoutMilliseconds, .integer(1...600_000),
            "A cache node that has not answered a request by then has failed it."),
        Setting(
            "connectTimeoutMilliseconds", \Agent.Upstream.connectTimeoutMilliseconds, .integer(1...600_000),
            "A cache node that has not accepted a connection by then has refused it."),
        Setting(
            "trackHotKeys", \Agent.Upstream.trackHotKeys, .boolean,
            """
            Let the cache nodes tell of changes of hot keys (CLIENT TRACKING, from version 6 on), over one more connection to each. \
            Without it, and with nodes that cannot, a local value is served for one second at most.
            """),
        Setting(
            "credentialsFile", \Agent.Upstream.credentialsFile, SettingType.absolutePath("FILE").optional,
            namesSecret: true,
            """
            A file with a line USER:PASSWORD to log in with at the cache nodes (requirepass: the user default), and where a node \
            differs node NAME USER:PASSWORD; others than its owner and group cannot read it.
            """),
        Setting(
            "tlsCaFile", \Agent.Upstream.tlsCaFile, SettingType.absolutePath("FILE").optional,
            "PEM: the authority that signed the cache nodes' certificates. It switches TLS to the nodes on."),
        Setting(
            "tlsCertificateFile", \Agent.Upstream.tlsCertificateFile, SettingType.absolutePath("FILE").optional,
            "PEM: a certificate and its chain, for nodes that ask for one."),
        Setting(
            "tlsKeyFile", \Agent.Upstream.tlsKeyFile, SettingType.absolutePath("FILE").optional,
            "PEM: its key, without a passphrase; others than its owner and group cannot read it."),
        Setting(
            "tlsServerName", \Agent.Upstream.tlsServerName, SettingType.serverName.optional,
            default: "the node's host in the topology", "What the cache nodes' certificates must be for."),
        Setting(
            "denyCommands", \Agent.denyCommands, .commands, default: "none",
            """
            Commands that apps are refused, such as flushall, keys or config|set; a command stands for all its subcommands. \
            In the file a list, or one text with commas.
            """),
        Setting(
            "requestBytesMax", \Agent.Limits.requestBytesMax, .integer(1024...(2 << 30)),
            "Bytes of one request; a longer one is a protocol error and ends its connection."),
        Setting(
            "heldRequestBytesMax", \Agent.Limits.heldRequestBytesMax, .integer(1024...(2 << 30)),
            """
            Bytes of one request that the agent holds until all of it has arrived; a longer one is a protocol error, too. Commands \
            of one key are not held: their large values are passed on while they arrive.
            """),
        Setting(
            "pipelineDepthMax", \Agent.Limits.pipelineDepthMax, .integer(1...65_536),
            "Requests of one client in flight; beyond it the agent reads no further from that client."),
        Setting(
            "clientsMax", \Agent.Limits.clientsMax, .integer(1...1_000_000),
            "App clients connected at once; one more is told so and disconnected. The peer listener takes 128."),
        Setting(
            "clientIdleSeconds", \Agent.Limits.clientIdleSeconds, .integer(0...31_536_000),
            """
            A client that has said nothing and got nothing for this long is disconnected, unless it waits or listens; 0: never. \
            Redis calls it timeout.
            """),
        Setting(
            "outputBytesMax", \Agent.Limits.outputBytesMax, .integer(1024...(16 << 30)),
            "Bytes of replies that wait for one client to read them; beyond it the agent reads no further from that client."
        ),
        Setting(
            "tlsHandshakeMilliseconds", \Agent.Limits.tlsHandshakeMilliseconds, .integer(100...600_000),
            "A client that has not ended its TLS handshake by then is disconnected."),
        Setting(
            "capacityBytes", \Agent.LocalCache.capacityBytes, .integer(0...(1 << 40)),
            "Memory for hot values in the whole process, shared out over the event loops; 0: no local cache."),
        Setting(
            "valueBytesMax", \Agent.LocalCache.valueBytesMax, .integer(1...RESPLimits.bulkBytesMax),
            "A longer value is not cached."),
        Setting(
            "probePermille", \Agent.LocalCache.probePermille, .integer(0...1000),
            """
            Of a thousand reads answered from the local cache, how many are compared with the key's home afterwards, so that \
            metrics show what staleness is served; 0: none. Each is one more command for the home.
            """),
        Setting(
            "windowMilliseconds", \Agent.Breaker.windowMilliseconds, .integer(100...60_000),
            "A node's breaker judges the requests of this long."),
        Setting(
            "callsMin", \Agent.Breaker.callsMin, .integer(1...1_000_000),
            "With fewer requests in the window, shares of them do not open a breaker."),
        Setting(
            "failurePercent", \Agent.Breaker.failurePercent, .integer(1...100),
            "A breaker opens when this share of the window's requests failed or timed out."),
        Setting(
            "consecutiveFailures", \Agent.Breaker.consecutiveFailures, .integer(1...1000),
            "A breaker opens when this many requests in a row failed or timed out, however few there were."),
        Setting(
            "slowCallMilliseconds", \Agent.Breaker.slowCallMilliseconds, .integer(1...600_000),
            "A request that takes this long is a slow one."),
        Setting(
            "slowCallPercent", \Agent.Breaker.slowCallPercent, .integer(1...100),
            "A breaker opens when this share of the window's requests was slow."),
        Setting(
            "slowNodesPercentMax", \Agent.Breaker.slowNodesPercentMax, .integer(1...100),
            "No more than this share of the nodes, and one at least, is given up at once for being slow alone."),
        Setting(
            "openMilliseconds", \Agent.Breaker.openMilliseconds, .integer(10...600_000),
            "How long a breaker first stays open before it lets probes through."),
        Setting(
            "openMillisecondsMax", \Agent.Breaker.openMillisecondsMax, .integer(10...600_000),
            "What that time grows to when a breaker opens again and again."),
        Setting(
            "probesMax", \Agent.Breaker.probesMax, .integer(1...1000),
            "Probes at once through a half-open breaker; it closes when that many have succeeded."),
        Setting(
            "probeMilliseconds", \Agent.Breaker.probeMilliseconds, .integer(1...600_000),
            "A probe that has not been answered by then has failed."),
    ]

    private static let detection = [
        Setting(
            "keysPerSliceMax", \Agent.Detection.keysPerSliceMax, .integer(64...(1 << 20)),
            "Distinct keys that each event loop counts exactly in one slice."),
        Setting(
            "reportBytesPerSecondMax", \Agent.Detection.reportBytesPerSecondMax,
            .integer(4096...(DetectionLimits.reportFrameBytesMax * 1000 / DetectionLimits.sliceMilliseconds)),
            "What the agent's reports to the coordinator may cost."),
        Setting(
            "everySeconds", \Agent.Scan.everySeconds, .integer(0...604_800),
            """
            How often the agent that coordinates scans the cache nodes for hot keys by Redis's LFU counters, and writes them to \
            sources/scan; 0: never. Set it alike on all agents that may coordinate.
            """),
        Setting(
            "keysPerSecondMax", \Agent.Scan.keysPerSecondMax, .integer(ScanLimits.keysPerSecondRange),
            "Keys of each node that such a scan looks at in a second."),
    ]

    private static let operation = [
        Setting("level", \Agent.Log.level, .choice, "Log lines below this level are left out."),
        Setting(
            "format", \Agent.Log.format, .choice, "Log lines on standard error: for people, or one JSON object each."),
        Setting(
            "shutdownGraceMilliseconds", \Agent.shutdownGraceMilliseconds, .integer(0...600_000),
            "From SIGTERM until requests that are still in flight are given up."),
    ]
}
