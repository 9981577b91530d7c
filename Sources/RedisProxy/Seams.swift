public import NIOCore
public import RESP

/// Counts the keys of requests for one event loop. Called on that loop only, once per key and request: what is derived from it must
/// neither block nor allocate. By itself it counts nothing.
///
/// A class and no protocol: each request calls it, over a reference that is not counted (``Borrowed``), which a protocol's cannot be.
open class KeyAccessRecorder {
    public init() {}

    /// - Parameter hash: `FastHash` of the key with the process's seed.
    /// - Returns: what to name in ``addReply(_:bytes:isMiss:)`` when the reply has come; 0: nothing.
    open func record(key: UnsafeRawBufferPointer, hash: UInt64, reads: UInt32, writes: UInt32) -> UInt64 { 0 }

    /// - Parameter isMiss: the reply says that there is no value; means something for reads alone, which the recorder tells by the
    ///   slot.
    open func addReply(_ slot: UInt64, bytes: Int, isMiss: Bool) {}
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
