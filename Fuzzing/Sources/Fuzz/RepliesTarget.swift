import NIOCore
import RESP

/// ``ReplyScanner`` on bytes of a node: the ends that it finds do not depend on the pieces in which they come, and what it takes for
/// a reply ends where the decoder ends it.
enum RepliesTarget {
    static func run(_ bytes: UnsafeRawBufferPointer) -> CInt {
        let whole = ends(bytes, pieces: [bytes.count])
        require(whole == ends(bytes, pieces: (1...max(1, bytes.count)).map { $0 }), "byte by byte is as at once")
        for split in CommandsTarget.splits(bytes.count) {
            require(whole == ends(bytes, pieces: [split, bytes.count]), "in two pieces at \(split) is as at once")
        }
        var start = 0
        for end in whole where end > 0 {
            // The decoder refuses more than the scanner (a boolean that is neither). What it takes, it takes whole.
            let reply = Array(bytes[start..<end])
            if let value = try? RESPValue(decoding: reply) {
                for cut in CommandsTarget.splits(reply.count) {
                    require(
                        (try? RESPValue(decoding: Array(reply[..<cut]))) == nil, "\(value) ends earlier than scanned")
                }
            }
            start = end
        }
        return 0
    }

    /// Where replies end; -1 for an error.
    private static func ends(_ bytes: UnsafeRawBufferPointer, pieces: [Int]) -> [Int] {
        var scanner = ReplyScanner()
        var found: [Int] = []
        var start = 0
        for end in pieces {
            while start < end {
                do throws(RESPError) {
                    guard let length = try scanner.scan(UnsafeRawBufferPointer(rebasing: bytes[start..<end])) else {
                        break
                    }
                    require(length > 0 && start + length <= end, "a reply lies in what there is")
                    start += length
                    found.append(start)
                } catch {
                    return found + [-1]
                }
            }
        }
        return found
    }
}
