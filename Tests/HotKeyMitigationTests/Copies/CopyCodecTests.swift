import HotKeyMitigation
import Testing

@Suite struct CopyCodecTests {
    @Test("names are distinct for every key and copy, and recognised")
    func names() {
        var seen: Set<[UInt8]> = []
        for key in ["", "a", "1:a", ":", "__hkcopy:1:a", "1", "11"] {
            for copy in 0...16 { seen.insert(CopyCodec.name(key: Array(key.utf8), copy: copy)) }
        }
        // `__hkcopy:1:a` is copy 1 of "a" and an app's own key of that name: the one clash, and the app's own doing.
        #expect(seen.count == 7 * 17 - 1)
        #expect(CopyCodec.name(key: Array("item:42".utf8), copy: 3) == Array("__hkcopy:3:item:42".utf8))
        #expect(CopyCodec.name(key: Array("item:42".utf8), copy: 3).withRaw { CopyCodec.isCopyName($0) })
        #expect(!"item:42".withRaw { CopyCodec.isCopyName($0) })
        #expect(!"__hkcop".withRaw { CopyCodec.isCopyName($0) })
    }

    @Test("values, missing keys and tombstones are told apart, whatever the value")
    func content() {
        for value in [[], Array("t".utf8), Array("n".utf8), Array("v".utf8), [0, 255, 13, 10]] as [[UInt8]] {
            let stored = value.withRaw { CopyCodec.encode(value: $0) }
            #expect(stored.withRaw { CopyCodec.decode($0) } == .value(headerBytes: 1))
            #expect(Array(stored.dropFirst()) == value)
        }
        #expect(CopyCodec.tombstone.withRaw { CopyCodec.decode($0) } == .tombstone)
        #expect(CopyCodec.missing.withRaw { CopyCodec.decode($0) } == .missing)
        for foreign in ["", "x", "tv", "nn", "hello"] {
            #expect(foreign.withRaw { CopyCodec.decode($0) } == .foreign)
        }
    }
}
