import HotKeyMitigation
import NIOCore
import RESP

/// Filling and deleting a key's copies on behalf of whoever manages them for the fleet; no client waits.
extension ProxyLoop {
    /// Reads home and stores its value in every copy, as a read that finds one empty does.
    /// - Parameter done: told once whether it is done; false too while this agent does not act on the key.
    func fillCopies(of key: [UInt8], done: @escaping (Bool) -> Void) {
        updateNow()
        guard !isShutDown, let index = hotIndex(of: key), table[index].kind.usesCopies, !copyNodes(of: key).isEmpty
        else { return done(false) }
        var get = ByteBuffer()
        RESPWriter.writeCommand([Array("GET".utf8), key], to: &get)
        let read = HotRead(
            loop: self,
            question: HotQuestion(key: key, command: Array(get.readableBytesView), isGet: true, version: .resp2),
            counter: 0, sink: .none, token: nil, localLifetimeNanoseconds: 0,
            copyLifetimeNanoseconds: table[index].copyLifetimeNanoseconds)
        read.filling = .all(done)
        read.tryHome()
    }

    /// Deletes those copies of a key, whether this agent acts on it or not. A copy may go at any time, a tombstone too
    /// (``CopyReadGate``), so nothing has to be waited for.
    func removeCopies(_ numbers: ClosedRange<Int>, of key: [UInt8], done: @escaping (Bool) -> Void) {
        updateNow()
        guard !isShutDown, nodes.count > 1 else { return done(!isShutDown) }
        let places: [NodeState]
        if let cluster {
            places = cluster.copySlots.nodes(of: key, count: numbers.upperBound)
        } else {
            let count = min(numbers.upperBound + 1, nodes.count)
            places = key.withUnsafeBytes { placement?.successors($0, count: count) ?? [] }.dropFirst().map { nodes[$0] }
        }
        var left = 1
        var succeeded = true
        func one(_ isDeleted: Bool) {
            succeeded = succeeded && isDeleted
            left -= 1
            if left == 0 { done(succeeded) }
        }
        for number in numbers where number <= places.count {
            guard let name = copyName(key, number) else { continue }
            left += 1
            deleteCopy(name, on: places[number - 1], done: one)
        }
        one(true)
    }

    func deleteCopy(_ name: [UInt8], on node: NodeState, done: @escaping (Bool) -> Void) {
        let request = ClosureRequest { [self] result in
            guard case .reply(let view, _) = result else { return done(false) }
            noteRedirection(view, from: node)
            if view.isError { return done(false) }
            if view.bytes.count > 1, view.bytes[1] == UInt8(ascii: "1") { statistics.copiesRemoved &+= 1 }
            done(true)
        }
        if sendForCopy([Array("DEL".utf8), name], to: node, request) != nil { done(false) }
    }

    /// Deletes the copies that lie elsewhere from now on, where they have lain: on nodes that are taken away, too. Agents that hear of it
    /// later may fill one more, which then expires.
    func removeMovedCopies(from old: Placement, _ oldNodes: [NodeState], to topology: ProxyTopology) {
        guard removesMovedCopies, let new = topology.placement else { return }
        for index in 0..<table.count where table[index].kind.usesCopies {
            let (key, copies) = (table[index].key, table[index].copies)
            let (before, after) = key.withUnsafeBytes {
                (old.successors($0, count: copies + 1), new.successors($0, count: copies + 1))
            }
            for (number, place) in before.enumerated().dropFirst() {
                let node = oldNodes[place]
                guard number >= after.count || topology.nodes[after[number]] != node.node else { continue }
                deleteCopy(CopyCodec.name(key: key, copy: number), on: node) { _ in }
            }
        }
    }
}

extension ProxyServer {
    /// Stores the value that the key's home has now in all of its copies.
    ///
    /// Errors: ``RedisProxyError/Code/stopped`` after ``shutDown()``.
    /// - Returns: whether every copy whose node can be asked has been. False too while the snapshot in force gives the key no copies.
    public func fillCopies(of key: [UInt8]) async throws -> Bool {
        try await onLoop(of: key) { loop, done in loop.fillCopies(of: key, done: done) }
    }

    /// Deletes copies of a key by their numbers, which count from 1.
    ///
    /// Errors: ``RedisProxyError/Code/stopped`` after ``shutDown()``.
    /// - Returns: whether they are gone.
    public func removeCopies(_ numbers: ClosedRange<Int>, of key: [UInt8]) async throws -> Bool {
        try await onLoop(of: key) { loop, done in loop.removeCopies(numbers, of: key, done: done) }
    }

    /// To be asked again and again by the one agent that manages the fleet's copies: how many nodes hold keys, and how often copies were
    /// found to lie elsewhere before a Redis Cluster, as the first event loop knows it. For
    /// ``RedisProxyLimits/copyManagementNanoseconds`` after each call that event loop deletes copies which a change of places leaves
    /// behind.
    ///
    /// Errors: ``RedisProxyError/Code/stopped`` after ``shutDown()``.
    public func manageCopies() async throws -> (nodes: Int, changes: UInt64) {
        try checkNotStopped()
        let loop = loops[0]
        return try await loop.eventLoop.submit {
            loop.value.updateNow()
            loop.value.managesCopiesUntil = loop.value.now + RedisProxyLimits.copyManagementNanoseconds
            let cluster = loop.value.cluster
            // Of a Redis Cluster that has not told its slots only seeds are known.
            return (cluster?.hasMap == false ? 0 : loop.value.nodes.count, loop.value.copyPlaceChanges)
        }.get()
    }

    private func onLoop(
        of key: [UInt8], _ body: @escaping @Sendable (ProxyLoop, @escaping (Bool) -> Void) -> Void
    ) async throws -> Bool {
        try checkNotStopped()
        let number = key.withUnsafeBytes { FastHash.hash($0, seed: 0) } % UInt64(loops.count)
        let loop = loops[Int(number)]
        let promise = loop.eventLoop.makePromise(of: Bool.self)
        loop.eventLoop.execute { body(loop.value) { promise.succeed($0) } }
        return try await promise.futureResult.get()
    }
}
