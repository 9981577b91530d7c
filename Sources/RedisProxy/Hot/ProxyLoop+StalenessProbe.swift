import HotKeyMitigation
import NIOCore
import RESP

/// Comparing a sample of local hits with home.
extension ProxyLoop {
    /// After a local hit that ``hitSampler`` has drawn, and that has been answered.
    func probeStaleness(
        _ index: Int, _ command: UnsafeRawBufferPointer, _ version: ProtocolVersion, served: ByteBuffer
    ) {
        hitSampler.restart(random: nextRandom())
        guard stalenessProbesInFlight < RedisProxyLimits.stalenessProbesMax, Self.isComparable(command),
            let value = cache.origin(index: index, command: command, protocolVersion: version.rawValue)
        else { return }
        let home = home(table[index].key)
        // A breaker that is not closed has other plans for the node, and a value served meanwhile goes by another cap.
        guard home.isUsable else { return }
        // Not `now`: that may have been read before the process was stopped, and then the hit was served by it, too.
        let probe = StalenessProbe(servedAt: NIODeadline.now().uptimeNanoseconds, value: value)
        stalenessProbesInFlight += 1
        let request = ClosureRequest(isHousekeeping: true) { [self] result in
            stalenessProbesInFlight -= 1
            statistics.staleness.record(probe.finding(Self.compare(served, result)))
        }
        let failure = home.send(command, .request(request), version)
        if failure != nil { stalenessProbesInFlight -= 1 }
    }

    private static func compare(_ served: ByteBuffer, _ result: ClosureRequest.Result) -> StalenessProbe.Answer {
        guard case .reply(let view, _) = result else { return .nothing }
        if view.isError {
            // The key is of another type now, or home has trouble of its own.
            return view.isCommandError ? .different : .nothing
        }
        if view.isNull, served.isNullReply { return .same }
        return served.readableBytes == view.length && served == view.copied() ? .same : .different
    }

    /// Whether the same value always has the same reply. Not where time decides (`TTL`), nor where the order of members does (`HGETALL`),
    /// which may change while the members do not.
    private static func isComparable(_ command: UnsafeRawBufferPointer) -> Bool {
        var parser = CommandParser()
        guard case .command? = try? parser.parse(command), let name = parser.arguments.first,
            let spec = CommandTable.redis70.find(
                UnsafeRawBufferPointer(rebasing: command[name.offset..<(name.offset + name.length)]))
        else { return false }
        return comparable.contains(spec.name)
    }

    private static let comparable: Set = [
        "bitcount", "bitpos", "exists", "get", "getbit", "getrange", "hexists", "hget", "hlen", "hmget", "hstrlen",
        "lindex", "llen", "lpos", "lrange", "mget", "scard", "sismember", "smismember", "strlen", "substr", "type",
        "xlen",
        "xrange", "xrevrange", "zcard", "zcount", "zlexcount", "zmscore", "zrange", "zrangebylex", "zrangebyscore",
        "zrank", "zrevrange", "zrevrangebylex", "zrevrangebyscore", "zrevrank", "zscore",
    ]
}
