import NIOCore
import RESP

/// ``RESPValue`` decoded: what is written and read again is the same, and the scanner finds its end.
enum ValuesTarget {
    static func run(_ bytes: UnsafeRawBufferPointer) -> CInt {
        guard let value = try? RESPValue(decoding: Array(bytes)) else { return 0 }
        for version in [ProtocolVersion.resp2, .resp3] {
            let written = write(value, version)
            guard let read = try? RESPValue(decoding: written) else { fatalError("broken: \(value) is not read again") }
            // RESP2 has fewer types: after the first time nothing more is lost.
            require(write(read, version) == written, "\(value) changes when it is written and read")
            require(scannedLength(written) == written.count, "the scanner ends \(value) elsewhere")
        }
        return 0
    }

    private static func write(_ value: RESPValue, _ version: ProtocolVersion) -> [UInt8] {
        var buffer = ByteBuffer()
        value.write(to: &buffer, version: version)
        return Array(buffer.readableBytesView)
    }

    private static func scannedLength(_ bytes: [UInt8]) -> Int? {
        var scanner = ReplyScanner()
        return bytes.withUnsafeBytes { try? scanner.scan($0) }
    }
}
