/// The key hashes of twemproxy 0.5.0, bit for bit as its x86-64 build computes them, truncations and quirks included: a key
/// that it stored must be found where it is.
///
/// Quirks worth knowing: `crc32` keeps 15 bits, so with `ketama` nearly all keys fall on the first points of the ring;
/// `crc16` keeps 32, the upper ones being what a CRC-16 would have shifted out; `fnv1a_64` works in 32 bits with the low
/// halves of the 64-bit constants; and where the C code adds a plain `char`, bytes from 0x80 up count as negative
/// (`one_at_a_time`, the `fnv` family, one byte of `hsieh`).
public enum KeyHash: String, CaseIterable, Sendable {
    case oneAtATime = "one_at_a_time"
    case md5
    case crc16
    case crc32
    case crc32a
    case fnv1_64
    case fnv1a_64
    case fnv1_32
    case fnv1a_32
    case hsieh
    case murmur
    case jenkins

    /// The hash of `key`. Allocates nothing.
    public func hash(_ key: UnsafeRawBufferPointer) -> UInt32 {
        switch self {
        case .oneAtATime: hashOneAtATime(key)
        case .md5: MD5.digest(key).0
        case .crc16: hashCRC16(key)
        case .crc32: hashCRC32(key) >> 16 & 0x7fff
        case .crc32a: hashCRC32(key)
        case .fnv1_64: hashFNV1Wide(key)
        case .fnv1a_64: hashFNV1a(key, initial: 0x8422_2325, prime: 0x1b3)
        case .fnv1_32: hashFNV1(key, initial: 0x811c_9dc5, prime: 0x0100_0193)
        case .fnv1a_32: hashFNV1a(key, initial: 0x811c_9dc5, prime: 0x0100_0193)
        case .hsieh: hashHsieh(key)
        case .murmur: hashMurmur(key)
        case .jenkins: hashJenkins(key)
        }
    }
}

/// What a C `char` on x86-64 becomes when it is converted to `uint32_t`.
private func signExtended(_ byte: UInt8) -> UInt32 {
    UInt32(bitPattern: Int32(Int8(bitPattern: byte)))
}

// MARK: - One at a time (Jenkins)

private func hashOneAtATime(_ key: UnsafeRawBufferPointer) -> UInt32 {
    var hash: UInt32 = 0
    for byte in key {
        hash &+= signExtended(byte)
        hash &+= hash << 10
        hash ^= hash >> 6
    }
    hash &+= hash << 3
    hash ^= hash >> 11
    hash &+= hash << 15
    return hash
}

// MARK: - CRC

/// CRC-16/XMODEM's table (polynomial 0x1021), highest bit first, and CRC-32's (0xedb88320), reflected.
private let crc16Table: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index) << 8) { value, _ in (value & 0x8000 != 0 ? value << 1 ^ 0x1021 : value << 1) & 0xffff }
}
private let crc32Table: [UInt32] = (0..<256).map { index in
    (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 1 ? value >> 1 ^ 0xedb8_8320 : value >> 1 }
}

/// twemproxy keeps the remainder in 32 bits and never cuts it to 16, so the upper half holds what was shifted out.
private func hashCRC16(_ key: UnsafeRawBufferPointer) -> UInt32 {
    var crc: UInt32 = 0
    for byte in key {
        crc = crc << 8 ^ crc16Table[Int(UInt8(truncatingIfNeeded: crc >> 8) ^ byte)]
    }
    return crc
}

private func hashCRC32(_ key: UnsafeRawBufferPointer) -> UInt32 {
    var crc = UInt32.max
    for byte in key {
        crc = crc >> 8 ^ crc32Table[Int(UInt8(truncatingIfNeeded: crc) ^ byte)]
    }
    return ~crc
}

// MARK: - FNV

/// `fnv1_64` is the one FNV that twemproxy computes in 64 bits. Only the low half is kept, and the low half of a product
/// depends on the low halves alone, so 32 bits give the same.
private func hashFNV1Wide(_ key: UnsafeRawBufferPointer) -> UInt32 {
    hashFNV1(key, initial: 0x8422_2325, prime: 0x1b3)
}

private func hashFNV1(_ key: UnsafeRawBufferPointer, initial: UInt32, prime: UInt32) -> UInt32 {
    var hash = initial
    for byte in key {
        hash &*= prime
        hash ^= signExtended(byte)
    }
    return hash
}

private func hashFNV1a(_ key: UnsafeRawBufferPointer, initial: UInt32, prime: UInt32) -> UInt32 {
    var hash = initial
    for byte in key {
        hash ^= signExtended(byte)
        hash &*= prime
    }
    return hash
}

// MARK: - Hsieh

private func hashHsieh(_ key: UnsafeRawBufferPointer) -> UInt32 {
    if key.isEmpty { return 0 }
    func pair(_ offset: Int) -> UInt32 { UInt32(key[offset]) | UInt32(key[offset + 1]) << 8 }

    var hash: UInt32 = 0
    var offset = 0
    while key.count - offset >= 4 {
        hash &+= pair(offset)
        hash = hash << 16 ^ pair(offset + 2) << 11 ^ hash
        hash &+= hash >> 11
        offset += 4
    }
    switch key.count - offset {
    case 3:
        hash &+= pair(offset)
        hash ^= hash << 16
        hash ^= signExtended(key[offset + 2]) << 18
        hash &+= hash >> 11
    case 2:
        hash &+= pair(offset)
        hash ^= hash << 11
        hash &+= hash >> 17
    case 1:
        hash &+= UInt32(key[offset])
        hash ^= hash << 10
        hash &+= hash >> 1
    default:
        break
    }
    hash ^= hash << 3
    hash &+= hash >> 5
    hash ^= hash << 4
    hash &+= hash >> 17
    hash ^= hash << 25
    hash &+= hash >> 6
    return hash
}

// MARK: - Murmur 2, with twemproxy's seed made from the length

private func hashMurmur(_ key: UnsafeRawBufferPointer) -> UInt32 {
    let multiplier: UInt32 = 0x5bd1_e995
    let length = UInt32(truncatingIfNeeded: key.count)
    var hash = 0xdead_beef &* length ^ length
    var offset = 0
    while key.count - offset >= 4 {
        var block = UInt32(littleEndian: key.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
        block &*= multiplier
        block ^= block >> 24
        block &*= multiplier
        hash = hash &* multiplier ^ block
        offset += 4
    }
    if offset < key.count {
        for position in offset..<key.count {
            hash ^= UInt32(key[position]) << (UInt32(position - offset) * 8)
        }
        hash &*= multiplier
    }
    hash ^= hash >> 13
    hash &*= multiplier
    hash ^= hash >> 15
    return hash
}

// MARK: - Jenkins' lookup3, with the initial value 13

private func hashJenkins(_ key: UnsafeRawBufferPointer) -> UInt32 {
    func rotate(_ value: UInt32, _ bits: UInt32) -> UInt32 { value << bits | value >> (32 - bits) }

    var a = 0xdead_beef &+ UInt32(truncatingIfNeeded: key.count) &+ 13
    var b = a
    var c = a
    /// Up to four bytes from `offset` on, the first the lowest; what lies past the end counts as zero.
    func word(_ offset: Int) -> UInt32 {
        if offset + 4 <= key.count {
            return UInt32(littleEndian: key.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
        }
        var value: UInt32 = 0
        var position = offset
        while position < key.count {
            value |= UInt32(key[position]) << (UInt32(position - offset) * 8)
            position += 1
        }
        return value
    }

    var offset = 0
    while key.count - offset > 12 {
        a &+= word(offset)
        b &+= word(offset + 4)
        c &+= word(offset + 8)
        a = (a &- c) ^ rotate(c, 4)
        c &+= b
        b = (b &- a) ^ rotate(a, 6)
        a &+= c
        c = (c &- b) ^ rotate(b, 8)
        b &+= a
        a = (a &- c) ^ rotate(c, 16)
        c &+= b
        b = (b &- a) ^ rotate(a, 19)
        a &+= c
        c = (c &- b) ^ rotate(b, 4)
        b &+= a
        offset += 12
    }
    if offset == key.count { return c }
    a &+= word(offset)
    b &+= word(offset + 4)
    c &+= word(offset + 8)
    c = (c ^ b) &- rotate(b, 14)
    a = (a ^ c) &- rotate(c, 11)
    b = (b ^ a) &- rotate(a, 25)
    c = (c ^ b) &- rotate(b, 16)
    a = (a ^ c) &- rotate(c, 4)
    b = (b ^ a) &- rotate(a, 14)
    c = (c ^ b) &- rotate(b, 24)
    return c
}
