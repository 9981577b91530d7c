import ZooKeeper

extension SimulatedEnsemble {
    private enum Step {
        case deliver(ClientID)
        case execute(ClientID)
        case apply(Int)
        case connect(ClientID)
    }

    /// Lets one thing happen, picked by the seed among all that can: a message arrives, a server takes a call, applies
    /// a write, a client connects; or, with the given probabilities, a fault.
    /// - Returns: what clients hear of it, in order; `nil` when nothing is left to happen.
    public mutating func step(faults: FaultRates = FaultRates()) -> [Delivery]? {
        if let fault = fault(faults) { return fault }
        let steps = possibleSteps()
        guard let step = steps.randomElement(using: &generator) else { return nil }
        switch step {
        case .deliver(let client): return deliver(client)
        case .execute(let client):
            execute(client)
            return []
        case .apply(let server):
            applyNext(server)
            return []
        case .connect(let client): return connect(client)
        }
    }

    /// Steps without faults until nothing is left to happen, sessions that were given up ended, every client connected
    /// and every server up to date.
    /// - Parameter respond: what the clients do with each delivery; calls that it makes are carried out as well.
    public mutating func settle(_ respond: (inout SimulatedEnsemble, Delivery) -> Void) {
        pausedServers = []
        while true {
            if let deliveries = step() {
                for delivery in deliveries { respond(&self, delivery) }
            } else if !endOrphan() {
                return
            }
        }
    }

    private func possibleSteps() -> [Step] {
        var steps: [Step] = []
        for (id, client) in clients.enumerated() {
            guard client.server != nil else {
                steps.append(.connect(id))
                continue
            }
            if !client.toClient.isEmpty { steps.append(.deliver(id)) }
            if !client.toServer.isEmpty, client.pending == nil { steps.append(.execute(id)) }
        }
        for (index, server) in servers.enumerated()
        where server.appliedCount < log.count && !pausedServers.contains(index) { steps.append(.apply(index)) }
        // A client that every server refuses waits until one has caught up: connecting is no progress then.
        let isProgress = steps.contains { step in
            guard case .connect(let id) = step else { return true }
            return servers.indices.contains { accepts($0, id) }
        }
        return isProgress ? steps : []
    }

    private mutating func fault(_ rates: FaultRates) -> [Delivery]? {
        guard !clients.isEmpty, rates != FaultRates() else { return nil }
        let draw = Double.random(in: 0..<1, using: &generator)
        let client = Int.random(in: 0..<clients.count, using: &generator)
        if draw < rates.cut { return cut(client) }
        if draw < rates.cut + rates.expire { return expire(client) }
        if draw < rates.cut + rates.expire + rates.abandon {
            // Every other time an earlier one comes to its end instead, so that they do not pile up.
            if Bool.random(using: &generator), endOrphan() { return [] }
            return abandon(client)
        }
        return nil
    }

    private mutating func deliver(_ id: ClientID) -> [Delivery] {
        switch clients[id].toClient.removeFirst() {
        case .event(let call, let event):
            guard clients[id].watches.removeValue(forKey: call) != nil else { return [] }
            return [.watch(id, call, event)]
        case .reply(let call, let request, let result, let transaction):
            clients[id].lastSeen = max(clients[id].lastSeen, transaction)
            if let watch = Self.leftWatch(request, result) { clients[id].watches[call] = watch }
            return [.reply(id, call, result)]
        }
    }

    /// Only what succeeded leaves a watch, and `exists` on a missing node.
    private static func leftWatch(_ request: Request, _ result: Result<Reply, StoreError>) -> LeftWatch? {
        guard case .success(let reply) = result else { return nil }
        switch request {
        case .get(let path, watch: true): return LeftWatch(kind: .data, path: path, onMissing: false)
        case .exists(let path, watch: true):
            return LeftWatch(kind: .data, path: path, onMissing: reply == .stat(nil))
        case .children(let path, watch: true): return LeftWatch(kind: .children, path: path, onMissing: false)
        default: return nil
        }
    }

    /// The client's server takes its next call.
    private mutating func execute(_ id: ClientID) {
        guard let server = clients[id].server, let session = clients[id].sessionID else { return }
        let (call, request) = clients[id].toServer.removeFirst()
        switch request {
        case .write(let operation):
            append(operation, sessionID: session, client: id, call: call)
            clients[id].pending = (call, request, log.count)
        case .sync:
            clients[id].pending = (call, request, log.count)
            answerSync(id)
        case .get, .exists, .children:
            let tree = servers[server].replica.tree
            let result = read(request, tree, clients[id].identities)
            if let watch = Self.leftWatch(request, result) {
                servers[server].replica.arm(
                    token: call, watch.kind, watch.path, sessionID: session, as: clients[id].identities)
            }
            clients[id].toClient.append(.reply(call, request, result, transaction: tree.lastTransaction))
        }
    }

    private func read(
        _ request: Request, _ tree: ZnodeTree, _ identities: [ZnodeIdentity]
    ) -> Result<Reply, StoreError> {
        do throws(StoreError) {
            switch request {
            case .get(let path, _): return .success(.value(try tree.get(path, as: identities)))
            case .exists(let path, _): return .success(.stat(tree.exists(path)))
            case .children(let path, _): return .success(.children(try tree.children(path, as: identities)))
            case .sync, .write: return .success(.synced)
            }
        } catch {
            return .failure(error)
        }
    }

    private mutating func answerSync(_ id: ClientID) {
        guard let server = clients[id].server, let pending = clients[id].pending, case .sync = pending.request,
            servers[server].appliedCount >= pending.appliedCount
        else { return }
        clients[id].pending = nil
        clients[id].toClient.append(
            .reply(
                pending.call, .sync, .success(.synced),
                transaction: servers[server].replica.tree.lastTransaction))
    }

    /// A server applies its next write: events first, then the reply of the write, then what waited for it.
    mutating func applyNext(_ index: Int) {
        let entry = log[servers[index].appliedCount]
        servers[index].appliedCount += 1
        let (applied, fired) = servers[index].replica.apply(entry.write)
        for watch in fired {
            guard let id = client(of: watch.sessionID, on: index) else { continue }
            clients[id].toClient.append(.event(watch.token, watch.event))
        }
        if let id = entry.client, clients[id].server == index, let pending = clients[id].pending,
            pending.call == entry.call
        {
            clients[id].pending = nil
            clients[id].toClient.append(
                .reply(
                    pending.call, pending.request, applied.outcome.map { .written($0) },
                    transaction: applied.transaction))
        }
        for id in clients.indices where clients[id].server == index { answerSync(id) }
    }

    private func client(of session: Int64, on server: Int) -> ClientID? {
        clients.firstIndex { $0.sessionID == session && $0.server == server }
    }
}
