import StrictCoding
import ZooKeeper

extension RegistryOperator {
    /// Creates what is missing, in one transaction below the app's node, and keeps what is there: running it again, or
    /// two of it at once, changes nothing. Nodes of the hot set that cannot be read are written anew, in a new epoch,
    /// because no operator's decision is lost with them; operators' documents that cannot be read are only reported.
    ///
    /// - Parameters:
    ///   - topology: needed when the app has none yet.
    ///   - access: what the nodes that are created are given; nil for what the registry says already.
    ///     ``applyAccess(_:)`` changes the nodes that are there.
    /// - Throws: ``RegistryError/Code/badArgument`` when it has none and none is given; nothing was written then.
    public func initialise(
        topology: TopologyDocument?, control: ControlDocument = ControlDocument(),
        rules: RulesDocument = RulesDocument(), pins: PinsDocument = PinsDocument(), access: RegistryAccess? = nil
    ) async throws -> InitialiseReport {
        var report = InitialiseReport(created: [], rewritten: [], damaged: [], topologyDiffers: false)
        let current = try await topologyIfAny()
        if current == nil, topology == nil {
            throw RegistryError(
                .badArgument, "the app \"\(paths.app)\" has no topology yet: name its cache nodes", path: paths.topology
            )
        }
        var documents: [(path: String, data: [UInt8])] = [
            (paths.appNode, try registry.encode(AppDocument(), for: paths.appNode)),
            (paths.control, try registry.encode(control, for: paths.control)),
            (paths.rules, try registry.encode(rules, for: paths.rules)),
            (paths.pins, try registry.encode(pins, for: paths.pins)),
        ]
        if let access { documents.append((paths.access, try registry.encode(access, for: paths.access))) }
        if let topology { documents.append((paths.topology, try registry.encode(topology, for: paths.topology))) }
        documents += [(paths.sources, []), (paths.leader, []), (paths.agents, [])]
        let emptyBucket = try registry.encode(HotBucket(), for: paths.bucket(0))
        let buckets = (0..<RegistryLimits.bucketCount).map { (path: paths.bucket($0), data: emptyBucket) }

        let present = try await registry.access()
        func accessControl(_ path: String) -> [AccessControl] {
            guard let access = present ?? access, let node = paths.node(at: path) else {
                return AccessControl.openUnsafe
            }
            return access.accessControl(of: node)
        }
        for path in paths.rootAndParents { try await createIfMissing(path, accessControl(path), &report) }
        _ = try await retrying(paths.appNode) {
            let now = clock()
            let head = HotHead(epoch: HotHead.epochMin(at: now), publishedAt: now)
            let wanted = documents + [(paths.hot, try registry.encode(head, for: paths.hot))] + buckets
            let missing = try await self.missing(wanted.map(\.path))
            guard !missing.isEmpty else { return .unchanged(0) }
            let operations = wanted.filter { missing.contains($0.path) }
                .map { StoreOperation.create($0.path, data: $0.data, mode: .persistent, acl: accessControl($0.path)) }
            try await registry.store.multi(operations)
            report.created += wanted.map(\.path).filter(missing.contains)
            return .done(0)
        }
        if let current, let topology, case .success(let document) = current {
            report.topologyDiffers = document != topology
        }
        report.damaged = try await damagedDocuments()
        report.rewritten = try await repairHotSet()
        return report
    }

    private func topologyIfAny() async throws -> Result<TopologyDocument, RegistryError>? {
        do {
            return .success(try await topology().document)
        } catch let error as RegistryError where error.code == .notInitialised {
            return nil
        } catch let error as RegistryError where error.code == .badDocument {
            return .failure(error)
        }
    }

    private func createIfMissing(
        _ path: String, _ acl: [AccessControl], _ report: inout InitialiseReport
    ) async throws {
        let outcome = try await retrying(path) {
            if try await registry.store.exists(path) != nil { return .unchanged(0) }
            try await registry.store.create(path, [], mode: .persistent, acl: acl)
            return .done(0)
        }
        if outcome.changed { report.created.append(path) }
    }

    private func missing(_ paths: [String]) async throws -> Set<String> {
        try await withThrowingTaskGroup(of: String?.self) { group in
            for path in paths {
                group.addTask { [store = registry.store] in try await store.exists(path) == nil ? path : nil }
            }
            return try await group.reduce(into: []) { missing, path in if let path { missing.insert(path) } }
        }
    }

    private func damagedDocuments() async throws -> [DocumentProblem] {
        var problems: [DocumentProblem] = []
        func check<Document: RegistryDocument>(_ type: Document.Type, _ path: String) async throws {
            do {
                _ = try await registry.read(type, at: path)
            } catch let error as RegistryError where error.code == .badDocument {
                problems.append(DocumentProblem(path: path, reason: "\(error)"))
            }
        }
        try await check(AppDocument.self, paths.appNode)
        try await check(ControlDocument.self, paths.control)
        try await check(RulesDocument.self, paths.rules)
        try await check(PinsDocument.self, paths.pins)
        try await check(TopologyDocument.self, paths.topology)
        return problems
    }

    /// A head or a bucket that cannot be read keeps the coordinator from publishing. Head and damaged buckets are written
    /// in one transaction, so that no reader sees a head that names what is gone.
    private func repairHotSet() async throws -> [String] {
        var rewritten: [String] = []
        _ = try await retrying(paths.hot) {
            rewritten = []
            let value = try await registry.translating(paths.hot) { try await registry.store.get(paths.hot) }
            let readable = try? RegistryCodec.decode(HotHead.self, from: value.data, source: paths.hot)
            var head = readable ?? HotHead(epoch: 0, publishedAt: .now)
            var operations: [StoreOperation] = []
            var newest = head.version
            for index in 0..<RegistryLimits.bucketCount {
                let path = paths.bucket(index)
                let value = try await registry.store.get(path)
                switch PublishedHotSet.decode(value, bucket: index, path: path) {
                case .missing: break
                case .good(let bucket, _) where bucket.version >= head.buckets[index]:
                    newest = max(newest, bucket.version)
                    if readable == nil { head.buckets[index] = bucket.keys.isEmpty ? 0 : bucket.version }
                case .good, .bad:
                    head.buckets[index] = 0
                    let data = try registry.encode(HotBucket(), for: path)
                    operations.append(.set(path, data: data, version: value.stat.version))
                    rewritten.append(path)
                }
            }
            guard readable == nil || !operations.isEmpty else { return .unchanged(value.stat.version) }
            let now = clock()
            head.epoch = max(head.epoch + 1, HotHead.epochMin(at: now))
            head.version = newest + 1
            head.changes = []
            head.coordinator = ""
            head.publishedAt = now
            operations.append(
                .set(paths.hot, data: try registry.encode(head, for: paths.hot), version: value.stat.version))
            rewritten.append(paths.hot)
            try await registry.store.multi(operations)
            return .done(value.stat.version + 1)
        }
        return rewritten
    }
}
