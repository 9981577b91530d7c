/// Keeps one client's commands in order when some of them must be sent again.
///
/// Commands leave in a pipeline, so when one comes back undone others are on their way behind it. Were it sent again at once, this
/// could happen:
///
///     MSET {t}a 1 {t}b 1   TRYAGAIN, to be sent again in a while
///     SET {t}a 2           OK: this key had not been moved yet
///     MSET, sent again:    OK, and {t}a is 1 although its client wrote 2 last
///
/// and with other nodes and pauses every other pair can change places likewise. So: from the first command that comes back on, the
/// client's input is held; when all that is out has come back, what is to be sent again leaves in its order, the commands of one
/// slot over one connection. A write that a later command of its slot has overtaken meanwhile is not sent again: its client is
/// given the refusal, as a cluster client's caller would be. A read that was overtaken harms nobody, and is sent again.
///
/// Commands are named by numbers that count up. All of it is about one client.
struct ResendOrder<Target: Hashable> {
    struct Waiting {
        var number: UInt64
        /// nil where no key says which: such commands stand in no order to each other.
        var slot: Int?
        var isRead: Bool
        var target: Target
    }
    /// Sent and not come back.
    private(set) var underWay = 0
    private var waiting: [Waiting] = []
    /// The last command of each slot that was carried out, or may have been, since something waits.
    private var done: [Int: UInt64] = [:]

    var isWaiting: Bool { !waiting.isEmpty }
    /// Whether ``round()`` is due.
    var isReady: Bool { underWay == 0 && isWaiting }

    mutating func sent() { underWay += 1 }

    /// A command has come back and will not be sent again.
    /// - Parameter slot: asked for only when something waits; nil when it was certainly not carried out.
    mutating func ended(_ number: UInt64, slot: () -> Int?) {
        underWay -= 1
        if isWaiting {
            if let slot = slot() { done[slot] = max(done[slot] ?? 0, number) }
        } else if underWay == 0, !done.isEmpty {
            done = [:]
        }
    }

    mutating func wait(_ command: Waiting) {
        underWay -= 1
        let place = waiting.firstIndex { $0.number > command.number } ?? waiting.endIndex
        waiting.insert(command, at: place)
    }

    /// What leaves now, in this order, and what is given up. Of one slot only those leave that go to the same place as the first; the
    /// others wait for the next round.
    mutating func round() -> (resent: [Waiting], overtaken: [Waiting]) {
        var places: [Int: Target] = [:]
        // Behind one that waits on, all of its slot do.
        var held: Set<Int> = []
        var resent: [Waiting] = []
        var overtaken: [Waiting] = []
        var left: [Waiting] = []
        for command in waiting {
            if let slot = command.slot {
                if !command.isRead, let last = done[slot], last > command.number {
                    overtaken.append(command)
                    continue
                }
                if held.contains(slot) || places[slot].map({ $0 != command.target }) ?? false {
                    held.insert(slot)
                    left.append(command)
                    continue
                }
                places[slot] = command.target
            }
            resent.append(command)
        }
        waiting = left
        return (resent, overtaken)
    }
}
