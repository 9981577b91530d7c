import RESP

/// Connections that clients have for themselves come from here and go back here: a client that runs one transaction after the
/// other does not pay for a new connection each time.
extension NodeState {
    /// - Parameter keys: what a blocking command waits for; `nil` where there is only this node.
    func takeBound(_ version: ProtocolVersion, for keys: [[UInt8]]?) -> UpstreamConnection {
        let connection: UpstreamConnection
        if let place = idle.lastIndex(where: { $0.version == version }) {
            connection = idle.remove(at: place)
        } else {
            connection = UpstreamConnection(node: self, version: version, isDedicated: true)
            connection.connect()
        }
        dedicated[ObjectIdentifier(connection)] = (connection, keys)
        return connection
    }

    /// - Parameter isReusable: whether it is as good as new.
    func giveBack(_ connection: UpstreamConnection, isReusable: Bool) {
        dedicated[ObjectIdentifier(connection)] = nil
        guard isReusable, connection.state == .ready, !loop.isShutDown, idle.count < RedisProxyLimits.idleBoundMax
        else {
            connection.close(.connectionLost)
            return
        }
        connection.idleSince = loop.now
        idle.append(connection)
    }

    /// The keys of some who have connections of their own live elsewhere now. A transaction, and what a client asked all nodes, is
    /// finished here. What waits for another client's doing would wait for ever, and what listens would hear nothing.
    func part(where isMeant: ([[UInt8]]?) -> Bool) {
        for (connection, keys) in Array(dedicated.values) where isMeant(keys) {
            let mayFinish = connection.bound?.mayFinishElsewhere ?? (connection.listener == nil)
            if !mayFinish { connection.close(.keysMoved) }
        }
    }

    /// Whether it may be forgotten that this node was ever there.
    func hasLeft(_ now: UInt64) -> Bool {
        pendingCount == 0 && (dedicated.isEmpty || now > leavingAt &+ RedisProxyLimits.leavingNanoseconds)
    }

    func closeIdle(before now: UInt64) {
        guard let oldest = idle.first, now - min(now, oldest.idleSince) > RedisProxyLimits.idleBoundNanoseconds else {
            return
        }
        idle.removeFirst()
        oldest.close(.connectionLost)
    }
}
