import Dispatch
import Glibc

/// SIGINT and SIGTERM as something to wait for, instead of the end of the process.
final class Interrupts: Sendable {
    private let signals: AsyncStream<Int32>

    /// From here on the two signals end nothing by themselves.
    init() {
        let (stream, continuation) = AsyncStream.makeStream(of: Int32.self)
        signals = stream
        for number in [SIGINT, SIGTERM] {
            Glibc.signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            // The handler holds the source, and so keeps it for the rest of the process.
            source.setEventHandler { withExtendedLifetime(source) { _ = continuation.yield(number) } }
            source.resume()
        }
    }

    /// Returns at the first signal, also one that came before, or when cancelled.
    func wait() async {
        for await _ in signals { return }
    }
}
