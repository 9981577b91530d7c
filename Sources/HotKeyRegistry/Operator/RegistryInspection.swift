import ZooKeeper

/// One znode as it was found.
struct InspectedNode: Sendable {
    var path: String
    /// Nil for one that the schema does not know.
    var node: RegistryNode?
    var value: NodeValue?
    /// As this session is shown it; nil when it is not.
    var acl: [AccessControl]?
    var isRefused = false
}

/// What is wrong with the nodes of an app. Pure: from what was read to findings.
struct RegistryInspection: Sendable {
    /// What the registry says of who may do what.
    enum Roles: Sendable {
        /// Nothing: the app is open to everyone.
        case none
        /// - Parameter seesIdentities: whether ZooKeeper shows this session identities with their hashes.
        case known(RegistryAccess, seesIdentities: Bool)
        /// This session may not read it, or nobody can.
        case unreadable
    }

    let paths: RegistryPaths
    let roles: Roles
    private(set) var findings: [Finding] = []
    /// Nodes with the same wrong list, by what is wrong with it, in the order in which they were found.
    private var wrongLists: [(message: String, paths: [String])] = []

    init(paths: RegistryPaths, roles: Roles) {
        self.paths = paths
        self.roles = roles
    }

    mutating func inspect(_ nodes: [InspectedNode]) {
        inspectAccessAsAWhole()
        let found = Set(nodes.map(\.path))
        for path in Self.wanted.compactMap(paths.path(of:)) where !found.contains(path) {
            add(.error, .nodeMissing, path, "the node is missing", remedy: "`hkctl init` creates what is missing")
        }
        for inspected in nodes {
            guard let node = inspected.node else {
                add(
                    .warning, .nodeUnknown, inspected.path,
                    "the schema knows no such node, and nothing of ours reads it",
                    remedy: "delete it with a ZooKeeper client, or see who made it")
                continue
            }
            inspect(inspected, node)
        }
        reportRefused(nodes)
        reportWrongLists()
        inspectHotSet(nodes)
    }

    /// What `hkctl init` creates.
    static let wanted: [RegistryNode] =
        [.root, .app] + RegistryPaths.appChildren.filter { $0 != .access }
        + (0..<RegistryLimits.bucketCount).map(RegistryNode.bucket)

    private mutating func inspect(_ inspected: InspectedNode, _ node: RegistryNode) {
        if let value = inspected.value {
            inspectOwner(inspected.path, node, value.stat)
            inspectDocument(inspected.path, node, value)
        }
        if let acl = inspected.acl { inspectAccess(inspected.path, node, acl) }
    }

    private mutating func reportRefused(_ nodes: [InspectedNode]) {
        // The roles are not for readers; that is said as such.
        let refused = nodes.filter { $0.isRefused && $0.node != .access }.map(\.path)
        guard let first = refused.first else { return }
        add(
            .error, .nodeRefused, first,
            "this session may not read it\(Self.andMore(refused)), so it could not be looked at",
            remedy: "run this with an operator's credential (--zookeeper-digest-file)")
    }

    private static func andMore(_ paths: [String]) -> String {
        paths.count < 2 ? "" : ", nor \(paths.count - 1) more, the last \(paths[paths.count - 1])"
    }

    // MARK: Owner, size, document

    private mutating func inspectOwner(_ path: String, _ node: RegistryNode, _ stat: NodeStat) {
        guard let isEphemeral = node.isEphemeral, isEphemeral != (stat.ephemeralOwner != 0) else { return }
        if isEphemeral {
            let meaning =
                node == .candidate
                ? "no session holds it, so it never goes: it stands for election for ever, and nobody may lead"
                : "no session holds it, so it never goes: an agent that is not there seems to be"
            add(
                .error, .ownerWrong, path, meaning,
                remedy: "delete it with a ZooKeeper client; agents make their own anew")
        } else {
            add(
                .error, .ownerWrong, path,
                "session 0x\(String(stat.ephemeralOwner, radix: 16)) holds it, and it goes when that session ends",
                remedy: "delete it, then run `hkctl init`; import what was in it (`hkctl export` first)")
        }
    }

    private mutating func inspectDocument(_ path: String, _ node: RegistryNode, _ value: NodeValue) {
        guard let cap = node.bytesMax else { return }
        let bytes = value.data.count
        if bytes > cap {
            add(
                .error, .documentTooLarge, path, "it has \(bytes) bytes, its cap is \(cap): agents refuse it",
                remedy: remedy(replacing: node))
            return
        }
        if let problem = problem(path, node, value) {
            add(
                .error, .documentInvalid, path, "\(problem). Agents keep the last good one in force",
                remedy: remedy(replacing: node))
            return
        }
        if bytes * 100 >= cap * RegistryLimits.capWarningPercent {
            add(
                .warning, .documentNearCap, path,
                "it has \(bytes) of at most \(cap) bytes; what passes the cap is refused",
                remedy: "remove what is not needed any more (old pins, rules, nodes), or shorten reasons")
        }
    }

    private func problem(_ path: String, _ node: RegistryNode, _ value: NodeValue) -> DocumentProblem? {
        func check<Document: RegistryDocument>(_ type: Document.Type) -> DocumentProblem? {
            do {
                _ = try RegistryCodec.decode(type, from: value.data, source: path)
                return nil
            } catch {
                return DocumentProblem(path: path, reason: "\(error)")
            }
        }
        switch node {
        case .root, .sources, .leader, .agents: return nil
        case .app: return check(AppDocument.self)
        case .access: return check(RegistryAccess.self)
        case .control: return check(ControlDocument.self)
        case .rules: return check(RulesDocument.self)
        case .pins: return check(PinsDocument.self)
        case .topology: return check(TopologyDocument.self)
        case .hot: return check(HotHead.self)
        case .bucket(let index):
            guard case .bad(let error, _) = PublishedHotSet.decode(value, bucket: index, path: path) else { return nil }
            return DocumentProblem(path: path, reason: "\(error)")
        case .source: return check(SourceDocument.self)
        case .candidate: return check(LeaderDocument.self)
        case .agent: return check(AgentDocument.self)
        }
    }

    private func remedy(replacing node: RegistryNode) -> String {
        switch node {
        case .rules: "`hkctl rules apply FILE` replaces it"
        case .topology: "`hkctl topology apply FILE` replaces it"
        case .control: "`hkctl mode off|observe|mitigate` replaces it"
        case .access: "`hkctl acl apply FILE` replaces it"
        case .pins: "`hkctl import FILE` replaces it, with the other documents"
        case .hot, .bucket: "`hkctl init` writes it anew"
        case .source: "its detector has to write it by the schema (docs/znode-schema.md)"
        case .candidate, .agent: "delete it with a ZooKeeper client and restart that agent"
        default: "put it right with a ZooKeeper client, by docs/znode-schema.md"
        }
    }

    // MARK: Access

    private mutating func inspectAccessAsAWhole() {
        switch roles {
        case .none:
            add(
                .warning, .accessOpen, paths.appNode,
                "whoever reaches ZooKeeper may change everything: no access control is set",
                remedy: "`hkctl acl apply FILE` (docs/security.md)")
        case .known(_, seesIdentities: false):
            add(
                .warning, .accessUnverified, paths.appNode,
                "ZooKeeper shows this session users without their hashes, so the hashes were not compared",
                remedy: "run this with an operator's credential")
        case .known: break
        case .unreadable:
            add(
                .warning, .accessUnverified, paths.access,
                "the roles could not be read, so no access control list was compared",
                remedy: "run this with an operator's credential")
        }
    }

    private mutating func inspectAccess(_ path: String, _ node: RegistryNode, _ acl: [AccessControl]) {
        var wanted: [AccessControl]
        var found = acl
        switch roles {
        case .unreadable: return
        // Another app may have restricted the root that it shares with this one.
        case .none where node == .root: return
        case .none: wanted = AccessControl.openUnsafe
        case .known(let access, let seesIdentities):
            wanted = access.accessControl(of: node)
            if !seesIdentities {
                wanted = wanted.map(\.redacted)
                found = found.map(\.redacted)
            }
        }
        let isRight =
            node == .root
            ? Set(wanted).isSubset(of: found) && !found.contains { $0.isForAnyone && $0.permissions != .read }
            : Set(wanted) == Set(found)
        guard !isRight else { return }
        func text(_ entries: [AccessControl]) -> String { entries.map(\.summary).joined(separator: ", ") }
        let message =
            "the access control list is another than the role asks for: \(text(found)), expected \(text(wanted))"
            + (text(found) == text(wanted) ? " of other passwords" : "")
        if let index = wrongLists.firstIndex(where: { $0.message == message }) {
            wrongLists[index].paths.append(path)
        } else {
            wrongLists.append((message, [path]))
        }
    }

    private mutating func reportWrongLists() {
        for (message, paths) in wrongLists {
            let more =
                paths.count == 1 ? "" : "; so it is for \(paths.count - 1) more, the last \(paths[paths.count - 1])"
            let remedy: String =
                if case .none = roles {
                    "`hkctl acl apply FILE` sets every node's list, `hkctl acl apply --open` opens them all"
                } else {
                    "`hkctl acl show --output json > roles.json`, then `hkctl acl apply roles.json` sets them again"
                }
            add(.error, .accessWrong, paths[0], message + more, remedy: remedy)
        }
    }

    // MARK: Hot set

    private mutating func inspectHotSet(_ nodes: [InspectedNode]) {
        let values = Dictionary(nodes.compactMap { node in node.value.map { (node.path, $0) } }) { first, _ in first }
        guard
            let head = values[paths.hot].flatMap({ try? RegistryCodec.decode(HotHead.self, from: $0.data, source: "") })
        else { return }
        for index in 0..<RegistryLimits.bucketCount where head.buckets[index] > 0 {
            let path = paths.bucket(index)
            guard let value = values[path],
                case .good(let bucket, _) = PublishedHotSet.decode(value, bucket: index, path: path),
                bucket.version < head.buckets[index]
            else { continue }
            add(
                .error, .hotSetTorn, path,
                "its version \(bucket.version) is older than \(head.buckets[index]), which the head names",
                remedy: "`hkctl init` writes it anew; the coordinator publishes what is hot again")
        }
    }

    private mutating func add(
        _ severity: Finding.Severity, _ code: Finding.Code, _ subject: String, _ message: String, remedy: String
    ) {
        findings.append(Finding(severity, code, subject, message, remedy: remedy))
    }
}

extension RegistryOperator {
    /// Looks at every node of the app: there, of the right owner, size, schema and access control. Reads only.
    ///
    /// - Parameter identity: as whom this session authenticated.
    /// - Throws: ``RegistryError/Code/notInitialised`` when the app has no node; what the store throws.
    public func inspect(as identity: DigestIdentity?) async throws -> [Finding] {
        guard try await registry.translating(paths.appNode, { try await registry.store.exists(paths.appNode) }) != nil
        else {
            throw RegistryError(
                .notInitialised, "the app \"\(paths.app)\" is not initialised", path: paths.appNode)
        }
        var inspection = RegistryInspection(paths: paths, roles: try await roles(as: identity))
        inspection.inspect(try await nodesToInspect())
        return inspection.findings
    }

    private func roles(as identity: DigestIdentity?) async throws -> RegistryInspection.Roles {
        do {
            guard let access = try await registry.access() else { return .none }
            let isOperator = identity.map { $0.isSuperUser || access.role(of: $0) == .operator } ?? false
            return .known(access, seesIdentities: isOperator)
        } catch let error as RegistryError where error.code == .badDocument || error.store?.isRefusal == true {
            return .unreadable
        }
    }

    private func nodesToInspect() async throws -> [InspectedNode] {
        // What has to be there is looked for by name: its parent's children may be hidden from this session.
        var wanted: [(path: String, node: RegistryNode?)] = ([.access] + RegistryInspection.wanted).compactMap { node in
            paths.path(of: node).map { ($0, node) }
        }
        let known = Set(wanted.map(\.path))
        for parent in [RegistryNode.app] + RegistryNode.directories {
            guard let above = paths.path(of: parent) else { continue }
            for name in try await childrenIfAllowed(above) where !name.hasPrefix(Self.clockPrefix) {
                let path = "\(above)/\(name)"
                if !known.contains(path) { wanted.append((path, parent.child(named: name))) }
            }
        }
        return try await withThrowingTaskGroup(of: (Int, InspectedNode?).self) { group in
            var results: [Int: InspectedNode] = [:]
            for (index, (path, node)) in wanted.enumerated() {
                if index >= RegistryLimits.inspectionReadsAtOnceMax, let (done, inspected) = try await group.next() {
                    results[done] = inspected
                }
                group.addTask { (index, try await self.look(path, node)) }
            }
            for try await (index, inspected) in group { results[index] = inspected }
            return wanted.indices.compactMap { results[$0] }
        }
    }

    private func childrenIfAllowed(_ path: String) async throws -> [String] {
        do {
            return try await registry.store.children(path).names.sorted()
        } catch let error as StoreError where error.code == .noNode || error.isRefusal {
            return []
        } catch let error as StoreError {
            throw RegistryStore.translate(error, path: path, app: paths)
        }
    }

    /// Nil when the node went meanwhile.
    private func look(_ path: String, _ node: RegistryNode?) async throws -> InspectedNode? {
        var inspected = InspectedNode(path: path, node: node)
        do {
            inspected.value = try await registry.store.get(path)
            inspected.acl = try await registry.store.accessControl(path).acl
        } catch let error as StoreError where error.code == .noNode {
            return nil
        } catch let error as StoreError where error.isRefusal {
            inspected.isRefused = true
        } catch let error as StoreError {
            throw RegistryStore.translate(error, path: path, app: paths)
        }
        return inspected
    }

    /// Of a node that lives for the moment in which its time is read.
    private static let clockPrefix = "clock-"

    /// How far the servers' clock is ahead of this host's, and by how much that may be wrong. Nil when this session may
    /// not create a node, by whose time it is told.
    public func clockOffset() async throws -> (milliseconds: Int64, errorMilliseconds: Int64)? {
        let path = "\(paths.appNode)/\(Self.clockPrefix)\(UInt64.random(in: .min ... .max))"
        do {
            let acl = try await registry.accessControl(of: .control)
            let before = Timestamp.now
            try await registry.store.create(path, [], mode: .ephemeral, acl: acl)
            let after = Timestamp.now
            let stat = try await registry.store.exists(path)
            try? await registry.store.delete(path, version: nil)
            guard let stat else { return nil }
            let (early, late) = (before.millisecondsSince1970, after.millisecondsSince1970)
            return (stat.createdAtMilliseconds - (early + late) / 2, (late - early + 1) / 2)
        } catch let error as StoreError where error.isRefusal {
            return nil
        } catch let error as StoreError {
            throw RegistryStore.translate(error, path: path, app: paths)
        }
    }
}
