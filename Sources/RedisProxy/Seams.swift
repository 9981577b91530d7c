public import NIOCore
public import RESP

/// Counts the keys of requests for one event loop. Called on that loop only, once per key and request: implementations must
/// neither block nor allocate.
public protocol KeyAccessRecorder: AnyObject {
    /// - Parameter hash: `FastHash` of the key with the process's seed.
    /// - Returns: what to name in ``addReply(_:bytes:isMiss:)`` when the reply has come.
    func record(key: UnsafeRawBufferPointer, hash: UInt64, reads: UInt32, writes: UInt32) -> UInt64
    /// - Parameter isMiss: the reply says that there is no value; means something for reads alone, which the recorder tells by the
    ///   slot.
    func addReply(_ slot: UInt64, bytes: Int, isMiss: Bool)
}

/// Answers the agent's own commands (`HK.…`), except `HK.RECORD`, which the data path
/// answers itself because it counts.
public protocol AgentCommandHandler: Sendable {
    /// - Parameters:
    ///   - arguments: the command's name, in capitals, then its arguments.
    ///   - eventLoop: where the future must be completed.
    /// - Returns: the reply; a failed future is answered as `ERR` with the error's description.
    func reply(to arguments: [[UInt8]], on eventLoop: any EventLoop) -> EventLoopFuture<RESPValue>
}
