import HotKeyTestSupport
import NIOCore
import RESP

/// One real server for every test that does not harm it. It ends with the test process.
actor SharedRedis {
    static let shared = SharedRedis()
    private var starting: Task<RedisServer, any Error>?

    func server() async throws -> RedisServer {
        if starting == nil {
            starting = Task { try await RedisServer.start(extraArguments: ["--enable-debug-command", "yes"]) }
        }
        return try await starting!.value
    }

    static func client() async throws -> RedisTestClient { try await shared.server().client() }
}

extension StringProtocol {
    var bytes: [UInt8] { Array(utf8) }
}

/// What a parser found, arguments copied out.
enum Parsed: Equatable {
    case command([[UInt8]])
    case inline([[UInt8]])
    case error(String)
}

/// Feeds a parser as a connection does: what arrives is appended, every whole command is taken from the front.
struct ParserFeed {
    private var parser: CommandParser
    private(set) var rest: [UInt8] = []
    private(set) var parsed: [Parsed] = []
    private var isBroken = false

    init(_ parser: CommandParser = CommandParser()) {
        self.parser = parser
    }

    mutating func feed(_ bytes: some Sequence<UInt8>) {
        guard !isBroken else { return }
        rest += bytes
        while !rest.isEmpty {
            switch step() {
            case .success(.needMore): return
            case .success(.command(let length)):
                parsed.append(.command(parser.arguments.map { Array(rest[$0.offset..<$0.offset + $0.length]) }))
                rest.removeFirst(length)
            case .success(.inline(let length, let arguments)):
                parsed.append(.inline(arguments))
                rest.removeFirst(length)
            case .success(.nothing(let length)): rest.removeFirst(length)
            case .failure(let error):
                parsed.append(.error(error.message))
                isBroken = true
                return
            }
        }
    }

    private mutating func step() -> Result<CommandParser.Result, RESPError> {
        rest.withUnsafeBytes { bytes in
            do throws(RESPError) { return .success(try parser.parse(bytes)) } catch { return .failure(error) }
        }
    }

    static func parse(_ bytes: [UInt8]) -> [Parsed] {
        var feed = ParserFeed()
        feed.feed(bytes)
        return feed.parsed
    }
}

/// Feeds a scanner as a connection does, and returns the lengths of the replies.
struct ScannerFeed {
    private var scanner = ReplyScanner()
    private(set) var rest: [UInt8] = []
    private(set) var lengths: [Int] = []
    private(set) var error: RESPError?

    mutating func feed(_ bytes: some Sequence<UInt8>) {
        guard error == nil else { return }
        rest += bytes
        while !rest.isEmpty {
            let outcome = rest.withUnsafeBytes { bytes -> Result<Int?, RESPError> in
                do throws(RESPError) { return .success(try scanner.scan(bytes)) } catch { return .failure(error) }
            }
            switch outcome {
            case .success(let length?):
                lengths.append(length)
                rest.removeFirst(length)
            case .success(nil): return
            case .failure(let failure):
                error = failure
                return
            }
        }
    }

    static func scan(_ bytes: [UInt8]) -> ScannerFeed {
        var feed = ScannerFeed()
        feed.feed(bytes)
        return feed
    }
}

func encode(_ words: [String]) -> [UInt8] {
    var buffer = ByteBuffer()
    RESPWriter.writeCommand(words.map(\.bytes), to: &buffer)
    return Array(buffer.readableBytesView)
}

extension RESPValue {
    func encoded(_ version: ProtocolVersion) -> [UInt8] {
        var buffer = ByteBuffer()
        write(to: &buffer, version: version)
        return Array(buffer.readableBytesView)
    }
}
