import RESP

/// How long a command may leave its client without a reply although all is well.
enum WaitLimit: Hashable {
    /// Not at all: the ordinary time for a reply holds.
    case none
    case milliseconds(Int64)
    case unbounded

    /// What a blocking command says of itself. What Redis would refuse waits for nothing.
    init(_ spec: CommandSpec, argumentCount count: Int, argument: (Int) -> UnsafeRawBufferPointer) {
        func text(_ index: Int) -> String { String(decoding: argument(index), as: UTF8.self) }
        switch spec.name {
        case "xread", "xreadgroup":
            self = .none
            for index in 1..<count {
                if CommandTable.equalsIgnoringCase(argument(index), "STREAMS") { return }
                if CommandTable.equalsIgnoringCase(argument(index), "BLOCK"), index + 1 < count {
                    self.init(milliseconds: Double(text(index + 1)))
                    return
                }
            }
        case "wait": self.init(milliseconds: Double(text(2)))
        case "blmpop", "bzmpop": self.init(milliseconds: Double(text(1)).map { $0 * 1000 })
        default: self.init(milliseconds: Double(text(count - 1)).map { $0 * 1000 })
        }
    }

    private init(milliseconds: Double?) {
        guard let milliseconds, milliseconds >= 0 else {
            self = .none
            return
        }
        // Redis takes no timeout of more than a few hundred years; so long is as good as for ever.
        self = milliseconds == 0 || milliseconds > 1e15 ? .unbounded : .milliseconds(Int64(milliseconds.rounded(.up)))
    }

    /// - Parameter normal: what an ordinary reply may take.
    func nanoseconds(_ normal: UInt64) -> UInt64? {
        switch self {
        case .none: normal
        case .milliseconds(let wait): normal &+ UInt64(wait) &* 1_000_000
        case .unbounded: nil
        }
    }
}
