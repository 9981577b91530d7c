/// Finds a command's keys by its key specifications.
public enum KeyPositions {
    /// Appends the indices of all keys to `positions`, in ascending order for commands whose specifications ascend.
    ///
    /// Returns false when the arguments do not say where the keys are (a count that is no number or larger than the
    /// arguments that follow): the command is one that Redis would refuse too.
    public static func append(
        of spec: CommandSpec, argumentCount count: Int, to positions: inout [Int],
        argument: (Int) -> UnsafeRawBufferPointer
    ) -> Bool {
        for specification in spec.keySpecifications {
            guard let first = begin(specification.begin, count, argument) else { continue }
            switch specification.find {
            case .range(let last, let step, let limit):
                guard first < count else { return false }
                let end: Int
                if last >= 0 {
                    end = first + last
                } else if limit <= 1 {
                    end = count + last
                } else {
                    end = first + (count - first) / limit + last
                }
                guard end < count else { return false }
                var index = first
                while index <= end {
                    positions.append(index)
                    index += step
                }
            case .number(let numberIndex, let firstKey, let step):
                guard first + numberIndex < count else { return false }
                let digits = argument(first + numberIndex)
                guard let keys = WireNumber.parse(digits, from: 0, to: digits.count), keys >= 0,
                    keys <= Int64(count)
                else { return false }
                var index = first + firstKey
                for _ in 0..<keys {
                    guard index < count else { return false }
                    positions.append(index)
                    index += step
                }
            case .unknown:
                continue
            }
        }
        if spec.name == "sort", let store = sortDestination(count, argument) { positions.append(store) }
        return true
    }

    /// Redis calls this position unknown and searches for it as here (`sortGetKeys`): what belongs to another option is no
    /// keyword, and of several `STORE` the last counts.
    private static func sortDestination(_ count: Int, _ argument: (Int) -> UnsafeRawBufferPointer) -> Int? {
        let optionArguments = [("LIMIT", 2), ("GET", 1), ("BY", 1)]
        var destination: Int?
        var index = 2
        while index < count {
            if let option = optionArguments.first(where: { CommandTable.equalsIgnoringCase(argument(index), $0.0) }) {
                index += option.1
            } else if index + 1 < count, CommandTable.equalsIgnoringCase(argument(index), "STORE") {
                destination = index + 1
            }
            index += 1
        }
        return destination
    }

    private static func begin(
        _ begin: KeySpecification.Begin, _ count: Int, _ argument: (Int) -> UnsafeRawBufferPointer
    ) -> Int? {
        switch begin {
        case .index(let index): index
        case .keyword(let word, let startFrom):
            keyword(
                word, from: startFrom >= 0 ? startFrom : count + startFrom, count, argument, backwards: startFrom < 0)
        case .unknown: nil
        }
    }

    /// Index behind the keyword, if anything stands there.
    private static func keyword(
        _ word: String, from start: Int, _ count: Int, _ argument: (Int) -> UnsafeRawBufferPointer,
        backwards: Bool = false
    ) -> Int? {
        var index = start
        while index > 0, index < count {
            if index + 1 < count, CommandTable.equalsIgnoringCase(argument(index), word) { return index + 1 }
            index += backwards ? -1 : 1
        }
        return nil
    }
}
