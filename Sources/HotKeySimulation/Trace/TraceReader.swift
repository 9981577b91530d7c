/// Turns the lines of a trace into requests. Pure: bytes in, requests out; who reads the file counts its lines.
public struct TraceReader: Sendable {
    private enum State: Sendable {
        case undecided
        case monitor
        case csvHead
        case csv(CSVColumns)
    }
    private var state: State

    /// - Parameter format: nil to tell it from the first line that is not empty.
    public init(format: TraceFormat?) {
        switch format {
        case nil: state = .undecided
        case .monitor: state = .monitor
        case .csv: state = .csvHead
        }
    }

    /// Nil until a line has told it.
    public var format: TraceFormat? {
        switch state {
        case .undecided: nil
        case .monitor: .monitor
        case .csvHead, .csv: .csv
        }
    }

    /// - Parameters:
    ///   - line: without its end; a carriage return there is passed over.
    ///   - isCut: whether the line went on beyond what was read.
    public mutating func read(_ line: some Collection<UInt8>, isCut: Bool = false) throws(TraceError) -> TraceLine {
        var bytes = Array(line)[...]
        if bytes.last == UInt8(ascii: "\r") { bytes.removeLast() }
        if bytes.isEmpty { return .blank }
        switch state {
        case .undecided:
            let isStatus = bytes.elementsEqual(MonitorLine.status)
            if isStatus || MonitorLine.looksLike(bytes) {
                state = .monitor
            } else if let columns = try? CSVColumns(head: bytes) {
                state = .csv(columns)
                return .blank
            } else {
                throw TraceError(
                    expected:
                        "a line of MONITOR (\(MonitorLine.example)) or a head of CSV with the columns time and key",
                    found: bytes)
            }
            return try MonitorLine.read(bytes, isCut: isCut)
        case .monitor:
            return try MonitorLine.read(bytes, isCut: isCut)
        case .csvHead:
            state = .csv(try CSVColumns(head: bytes))
            return .blank
        case .csv(let columns):
            guard !isCut else {
                throw TraceError(expected: "a line of at most \(SimulationLimits.lineBytesMax) bytes", found: nil)
            }
            return try columns.read(bytes)
        }
    }
}
