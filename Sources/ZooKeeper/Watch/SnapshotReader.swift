import NIOConcurrencyHelpers

/// The loop behind the sequences of snapshots: read and arm, wait until the watch fires, read again.
///
/// Pulled by its reader: there is no task of its own, and news that come while the reader is busy are one flag, so that
/// the next read finds the newest state.
struct SnapshotReader<Snapshot: Sendable> {
    /// What watches leave behind for the reader.
    private final class Signal: Sendable {
        let isSessionLost = NIOLockedValueBox(false)
        let stream: AsyncStream<Void>
        private let continuation: AsyncStream<Void>.Continuation

        init() {
            (stream, continuation) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(1))
        }

        func fire(_ event: WatchEvent) {
            if event == .sessionLost { isSessionLost.withLockedValue { $0 = true } }
            continuation.yield()
        }
    }

    private let store: any CoordinationStore
    private let path: String
    private let isSame: @Sendable (Snapshot, Snapshot) -> Bool
    private let read: @Sendable (@escaping @Sendable (WatchEvent) -> Void) async throws -> Snapshot
    private let signal = Signal()
    private var wakeUps: AsyncStream<Void>.AsyncIterator
    private var last: Snapshot?
    private var isArmed = false
    private var isFinished = false

    init(
        store: any CoordinationStore, path: String, isSame: @escaping @Sendable (Snapshot, Snapshot) -> Bool,
        read: @escaping @Sendable (@escaping @Sendable (WatchEvent) -> Void) async throws -> Snapshot
    ) {
        self.store = store
        self.path = path
        self.isSame = isSame
        self.read = read
        wakeUps = signal.stream.makeAsyncIterator()
    }

    /// The next snapshot that differs from the last one, `nil` at the end.
    mutating func next(isolation actor: isolated (any Actor)?) async throws -> Snapshot? {
        while !isFinished {
            if isArmed {
                guard await wakeUps.next(isolation: actor) != nil else { break }
                isArmed = false
            }
            do {
                if signal.isSessionLost.withLockedValue({ $0 }) {
                    // The new session's server may be behind the one that was read last.
                    try await store.sync(path)
                    signal.isSessionLost.withLockedValue { $0 = false }
                }
                let signal = signal
                let snapshot = try await read { signal.fire($0) }
                isArmed = true
                if let last, isSame(last, snapshot) { continue }
                last = snapshot
                return snapshot
            } catch is CancellationError {
                break
            } catch let error as StoreError where error.code == .closed {
                break
            } catch let error as StoreError where error.isRetriable {
                // The client has waited for a connection itself; this pause is for refusals that come at once.
                try? await Task.sleep(for: .milliseconds(ZooKeeperLimits.rereadPauseMilliseconds))
            } catch {
                isFinished = true
                throw error
            }
        }
        isFinished = true
        return nil
    }
}
