import Testing

@testable import HotKeyMitigation

@Suite struct MD5Tests {
    private func hex(_ text: String) -> String {
        let digest = text.withRaw { MD5.digest($0) }
        let digits = Array("0123456789abcdef")
        var result = ""
        for word in [digest.0, digest.1, digest.2, digest.3] {
            for shift in stride(from: UInt32(0), to: 32, by: 8) {
                let byte = Int(word >> shift & 0xff)
                result += [digits[byte >> 4], digits[byte & 15]]
            }
        }
        return result
    }

    @Test("the test suite of RFC 1321, appendix A.5")
    func rfc1321() {
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
        let digits = String(repeating: "1234567890", count: 8)
        #expect(hex("") == "d41d8cd98f00b204e9800998ecf8427e")
        #expect(hex("a") == "0cc175b9c0f1b6a831c399e269772661")
        #expect(hex("abc") == "900150983cd24fb0d6963f7d28e17f72")
        #expect(hex("message digest") == "f96b697d7cb7938d525a2f31aaf161d0")
        #expect(hex("abcdefghijklmnopqrstuvwxyz") == "c3fcd3d76192e4007dfb496cca67e13b")
        #expect(hex(alphabet) == "d174ab98d277d9f5a5611c2c9f419d9f")
        #expect(hex(digits) == "57edf4a22be3c955ac49da2e2107b67a")
    }

    @Test("lengths around the padding's edges, against md5sum")
    func padding() {
        #expect(hex(String(repeating: "x", count: 55)) == "04364420e25c512fd958a70738aa8f72")
        #expect(hex(String(repeating: "x", count: 56)) == "668a72d5ba17f08e62dabcafad6db14b")
        #expect(hex(String(repeating: "x", count: 64)) == "c1bb4f81d892b2d57947682aeb252456")
        #expect(hex(String(repeating: "x", count: 119)) == "ab347a5f68c8a443cfcddc633f12c24f")
        #expect(hex(String(repeating: "x", count: 120)) == "fb98667f98096de92620b64f46e1c5b5")
    }
}
