import NIOConcurrencyHelpers
import ZooKeeper

/// Reads that leave a one-shot watch behind, at most one armed for each node and kind of read.
///
/// Every read with a watch registers one more watcher with the client. A periodic read of a node that never changes would
/// pile them up, so a read is plain while the last watch has not fired.
final class WatchedReader: Sendable {
    private struct State {
        var armed: [String: Int] = [:]
        var lastToken = 0
    }
    private let store: any CoordinationStore
    private let state = NIOLockedValueBox(State())
    private let onEvent: @Sendable (String) -> Void

    /// `onEvent` is called with the node's path when a watch fired or its session is gone: read again.
    init(store: any CoordinationStore, onEvent: @escaping @Sendable (String) -> Void) {
        self.store = store
        self.onEvent = onEvent
    }

    /// The node, or nil when there is none; watched in both cases.
    func get(_ path: String) async throws -> NodeValue? {
        while true {
            guard let token = arm(path) else {
                do {
                    return try await store.get(path)
                } catch let error as StoreError where error.code == .noNode {
                    return nil
                }
            }
            do {
                do {
                    return try await store.get(path, onEvent: handler(path, path, token))
                } catch let error as StoreError where error.code == .noNode {
                    if try await store.exists(path, onEvent: handler(path, path, token)) == nil { return nil }
                    // Created in between; the watch is armed and the next round reads plainly.
                }
            } catch {
                disarm(path, token)
                throw error
            }
        }
    }

    /// The node's metadata, or nil when there is none; watched in both cases.
    func stat(_ path: String) async throws -> NodeStat? {
        guard let token = arm(path) else { return try await store.exists(path) }
        do {
            return try await store.exists(path, onEvent: handler(path, path, token))
        } catch {
            disarm(path, token)
            throw error
        }
    }

    func children(_ path: String) async throws -> NodeChildren {
        let key = "children of \(path)"
        guard let token = arm(key) else { return try await store.children(path) }
        do {
            return try await store.children(path, onEvent: handler(key, path, token))
        } catch {
            disarm(key, token)
            throw error
        }
    }

    /// Nil when it is armed already.
    private func arm(_ key: String) -> Int? {
        state.withLockedValue { state in
            guard state.armed[key] == nil else { return nil }
            state.lastToken += 1
            state.armed[key] = state.lastToken
            return state.lastToken
        }
    }

    private func disarm(_ key: String, _ token: Int) {
        state.withLockedValue { state in
            if state.armed[key] == token { state.armed[key] = nil }
        }
    }

    private func handler(_ key: String, _ path: String, _ token: Int) -> @Sendable (WatchEvent) -> Void {
        { [weak self] _ in
            self?.disarm(key, token)
            self?.onEvent(path)
        }
    }
}
