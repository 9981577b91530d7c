public import NIOCore

/// Writes requests and the parts of replies.
public enum RESPWriter {
    /// A command as every Redis client sends it: an array of bulk strings.
    public static func writeCommand(_ arguments: [[UInt8]], to buffer: inout ByteBuffer) {
        writeHeader(UInt8(ascii: "*"), arguments.count, to: &buffer)
        for argument in arguments { writeBulk(argument, to: &buffer) }
    }

    public static func writeBulk(_ bytes: some Collection<UInt8>, to buffer: inout ByteBuffer) {
        writeHeader(UInt8(ascii: "$"), bytes.count, to: &buffer)
        buffer.writeBytes(bytes)
        buffer.writeInteger(crlf)
    }

    public static func writeBulk(_ bytes: UnsafeRawBufferPointer, to buffer: inout ByteBuffer) {
        writeHeader(UInt8(ascii: "$"), bytes.count, to: &buffer)
        buffer.writeBytes(bytes)
        buffer.writeInteger(crlf)
    }

    /// `-text\r\n`. Line breaks in the text become blanks.
    public static func writeError(_ text: String, to buffer: inout ByteBuffer) {
        buffer.writeString("-\(RESPValue.oneLine(text))\r\n")
    }

    /// A type byte, a count and the line end.
    public static func writeHeader(_ type: UInt8, _ count: Int, to buffer: inout ByteBuffer) {
        buffer.writeInteger(type)
        writeDecimal(count, to: &buffer)
        buffer.writeInteger(crlf)
    }

    private static let crlf: UInt16 = 0x0D0A

    /// Decimal digits without a String on the way.
    private static func writeDecimal(_ value: Int, to buffer: inout ByteBuffer) {
        if value >= 0, value < 10 {
            buffer.writeInteger(UInt8(ascii: "0") + UInt8(value))
            return
        }
        var rest = value.magnitude
        // 20 digits hold UInt64.max; written from the back so that no digit is moved.
        withUnsafeTemporaryAllocation(byteCount: 21, alignment: 1) { digits in
            var index = digits.count
            repeat {
                index -= 1
                digits[index] = UInt8(ascii: "0") + UInt8(rest % 10)
                rest /= 10
            } while rest > 0
            if value < 0 {
                index -= 1
                digits[index] = UInt8(ascii: "-")
            }
            buffer.writeBytes(UnsafeRawBufferPointer(rebasing: digits[index...]))
        }
    }
}
