/// Which of a Redis Cluster's slots a key is in: CRC-16 (XMODEM) of the key, or of its hash tag, modulo 16,384.
///
/// Source: the Redis Cluster specification, "Key distribution model" and "Hash tags"; tests compare it with `CLUSTER KEYSLOT`.
public enum ClusterSlot {
    public static let count = 16_384

    /// Allocates nothing.
    @inline(__always)
    public static func of(_ key: UnsafeRawBufferPointer) -> Int {
        // The low 16 bits of twemproxy's crc16 are the CRC: what it does not cut off does not come back down.
        Int(KeyHash.crc16.hash(hashedPart(key))) & (count - 1)
    }

    /// What stands between the first `{` and the first `}` behind it; the whole key when that is nothing.
    private static func hashedPart(_ key: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
        guard let open = key.firstIndex(of: UInt8(ascii: "{")),
            let close = key[(open + 1)...].firstIndex(of: UInt8(ascii: "}")), close > open + 1
        else { return key }
        return UnsafeRawBufferPointer(rebasing: key[(open + 1)..<close])
    }
}
