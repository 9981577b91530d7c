/// Accesses that have been recorded and not been looked up yet: a few, in the order in which they came.
///
/// Keeps its memory. One owner.
struct AccessBatch: ~Copyable {
    struct Access {
        var nameOffset: UInt16
        var nameLength: UInt16
        var reads: UInt32
        var writes: UInt32
        var misses: UInt32 = 0
        var replyBytes: UInt64 = 0
    }

    /// As many as the processor can wait for at once, and a few more, so that the costs of a batch are shared.
    static let accessesMax = 32
    /// The longest key fits an empty batch.
    static let namesBytesMax = 4 * DetectionLimits.keyBytesMax

    private(set) var count = 0
    private var namesUsed = 0
    let hashes: UnsafeMutablePointer<UInt64>
    private let accesses: UnsafeMutablePointer<Access>
    private let names: UnsafeMutableRawPointer

    init() {
        hashes = .allocate(capacity: Self.accessesMax)
        accesses = .allocate(capacity: Self.accessesMax)
        names = .allocate(byteCount: Self.namesBytesMax, alignment: 8)
    }

    deinit {
        hashes.deallocate()
        accesses.deallocate()
        names.deallocate()
    }

    @inline(__always)
    func hasRoom(forKeyOf bytes: Int) -> Bool {
        count < Self.accessesMax && namesUsed &+ bytes <= Self.namesBytesMax
    }

    /// There must be room.
    @inline(__always)
    mutating func append(_ key: UnsafeRawBufferPointer, hash: UInt64, reads: UInt32, writes: UInt32) {
        hashes[count] = hash
        accesses[count] = Access(
            nameOffset: UInt16(truncatingIfNeeded: namesUsed), nameLength: UInt16(truncatingIfNeeded: key.count),
            reads: reads, writes: writes)
        if let base = key.baseAddress { (names + namesUsed).copyMemory(from: base, byteCount: key.count) }
        namesUsed &+= key.count
        count &+= 1
    }

    /// - Parameter age: 1 for the access that was recorded last.
    @inline(__always)
    func addReply(bytes: UInt64, misses: UInt32, age: Int) {
        accesses[count &- age].replyBytes &+= bytes
        accesses[count &- age].misses &+= misses
    }

    mutating func removeAll() {
        count = 0
        namesUsed = 0
    }

    @inline(__always)
    func access(at place: Int) -> (access: Access, key: UnsafeRawBufferPointer) {
        let access = accesses[place]
        return (access, UnsafeRawBufferPointer(start: names + Int(access.nameOffset), count: Int(access.nameLength)))
    }
}
