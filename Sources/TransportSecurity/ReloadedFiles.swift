import NIOConcurrencyHelpers

/// A value that is made from files and made again when they change.
public protocol Reloadable: Sendable {
    /// What it is, for people: `the peer listener's certificate`.
    var name: String { get }
    /// Why the files as they are now are not in use; nil when they are.
    var problem: String? { get }
    /// Looks at the files. Reads them only when they have changed. Not to be called from two places at once.
    func refresh() -> ReloadOutcome
}

public enum ReloadOutcome: Sendable, Hashable {
    case unchanged
    case renewed
    /// The files have changed and cannot be used: what was in use stays. Said once for each change.
    case refused(String)
}

/// Holds what some files say. A value once read stays in use until the files hold another that is good, so that a file which is
/// being written, or is written wrongly, ends nobody's service.
public final class ReloadedFiles<Value: Sendable>: Reloadable {
    public let name: String
    private let paths: [String]
    private let load: @Sendable () throws(TransportSecurityError) -> Value
    private let state: NIOLockedValueBox<State>

    private struct State {
        var value: Value
        var identities: [FileIdentity?]
        var problem: String?
    }

    /// Reads the files for the first time.
    init(
        name: String, paths: [String], load: @escaping @Sendable () throws(TransportSecurityError) -> Value
    ) throws(TransportSecurityError) {
        self.name = name
        self.paths = paths
        self.load = load
        // Before they are read: what changes while they are is read again.
        let identities = paths.map { FileIdentity(path: $0) }
        state = NIOLockedValueBox(State(value: try load(), identities: identities))
    }

    public var current: Value { state.withLockedValue { $0.value } }
    public var problem: String? { state.withLockedValue { $0.problem } }

    public func refresh() -> ReloadOutcome {
        let identities = paths.map { FileIdentity(path: $0) }
        let isNew = state.withLockedValue { state in
            defer { state.identities = identities }
            return identities != state.identities
        }
        guard isNew else { return .unchanged }
        // Not under the lock: event loops ask for the value, and must not wait for a disk.
        do throws(TransportSecurityError) {
            let value = try load()
            state.withLockedValue { ($0.value, $0.problem) = (value, nil) }
            return .renewed
        } catch {
            state.withLockedValue { $0.problem = error.message }
            return .refused(error.message)
        }
    }
}
