import DequeModule
import NIOCore

/// The calls of one connection that wait for their replies, in the order in which they were sent: a reply belongs to the
/// first of them.
struct PendingCalls<Call> {
    private var calls: Deque<(call: Call, deadline: NIODeadline)> = []

    var count: Int { calls.count }
    /// Calls may be given different times, so that a later one can be due earlier.
    var nextDeadline: NIODeadline? { calls.lazy.map(\.deadline).min() }

    mutating func append(_ call: Call, deadline: NIODeadline) { calls.append((call, deadline)) }

    /// Takes the call that the next reply belongs to; nil when nothing was asked.
    mutating func takeFirst() -> Call? { calls.popFirst()?.call }

    /// The first call whose time has passed.
    func overdue(at now: NIODeadline) -> Call? { calls.first { $0.deadline <= now }?.call }

    mutating func takeAll() -> [Call] {
        defer { calls.removeAll() }
        return calls.map(\.call)
    }
}
