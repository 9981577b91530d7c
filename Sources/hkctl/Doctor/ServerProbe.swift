import Dispatch
import Glibc

/// Asks one ZooKeeper server for its state with the four-letter word `srvr`, over a connection of its own.
enum ServerProbe {
    enum Answer: Sendable, Hashable {
        /// What the server said, whatever it was.
        case text(String)
        /// Nobody is there, or nobody answers; why.
        case unreachable(String)
    }

    /// Takes at most the time given for connecting and as much again for the answer.
    static func ask(_ server: String, timeoutMilliseconds: Int) async -> Answer {
        await withCheckedContinuation { continuation in
            // Blocking calls belong on a thread of their own, not on the cooperative pool.
            DispatchQueue.global().async {
                continuation.resume(returning: askNow(server, timeoutMilliseconds: timeoutMilliseconds))
            }
        }
    }

    private static func askNow(_ server: String, timeoutMilliseconds: Int) -> Answer {
        guard let colon = server.lastIndex(of: ":") else { return .unreachable("not HOST:PORT") }
        let host = server[..<colon].filter { $0 != "[" && $0 != "]" }
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var list: UnsafeMutablePointer<addrinfo>?
        let found = getaddrinfo(String(host), String(server[server.index(after: colon)...]), &hints, &list)
        guard found == 0 else { return .unreachable("the name is not known: \(String(cString: gai_strerror(found)))") }
        defer { freeaddrinfo(list) }
        var reason = "no address"
        var next = list
        while let address = next {
            switch exchange(address.pointee, timeoutMilliseconds) {
            case .text(let text): return .text(text)
            case .unreachable(let why): reason = why
            }
            next = address.pointee.ai_next
        }
        return .unreachable(reason)
    }

    private static func exchange(_ address: addrinfo, _ timeoutMilliseconds: Int) -> Answer {
        let descriptor = socket(
            address.ai_family, address.ai_socktype | Int32(SOCK_CLOEXEC.rawValue), address.ai_protocol)
        guard descriptor >= 0 else { return .unreachable(errorText()) }
        defer { close(descriptor) }
        // On Linux the time to send bounds connecting as well.
        var limit = timeval(
            tv_sec: timeoutMilliseconds / 1_000, tv_usec: (timeoutMilliseconds % 1_000) * 1_000)
        for option in [SO_SNDTIMEO, SO_RCVTIMEO] {
            setsockopt(descriptor, SOL_SOCKET, option, &limit, socklen_t(MemoryLayout<timeval>.size))
        }
        guard connect(descriptor, address.ai_addr, address.ai_addrlen) == 0 else { return .unreachable(errorText()) }
        let word = Array("srvr".utf8)
        guard send(descriptor, word, word.count, Int32(MSG_NOSIGNAL)) == word.count else {
            return .unreachable(errorText())
        }
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4_096)
        while bytes.count < ControlLimits.serverAnswerBytesMax {
            let count = recv(descriptor, &chunk, chunk.count, 0)
            if count < 0, errno == EINTR { continue }
            guard count >= 0 else { return .unreachable(errorText()) }
            if count == 0 { break }
            bytes += chunk.prefix(count)
        }
        return .text(String(decoding: bytes, as: UTF8.self))
    }

    private static func errorText() -> String {
        // A time limit that passes is told as "try again".
        errno == EAGAIN || errno == EINPROGRESS ? "no answer in time" : String(cString: strerror(errno))
    }
}
