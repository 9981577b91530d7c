import HotKeyPeer
import HotKeyRegistry

/// How a rate moved since the turn before.
enum RateTrend: String, Encodable, Sendable {
    case rising, steady, falling
}

/// Compares each turn's rates with those of the turn before. Pure.
struct RateTrends {
    private var before: [PeerKey: Double]?

    /// By key; nil for a key that was not in the turn before.
    mutating func next(_ keys: [LiveKey]) -> [PeerKey: RateTrend] {
        let last = before
        before = Dictionary(keys.map { ($0.key, $0.accessesPerSecond) }) { first, _ in first }
        guard let last else { return [:] }
        var trends: [PeerKey: RateTrend] = [:]
        for key in keys { trends[key.key] = last[key.key].map { Self.trend(from: $0, to: key) } }
        return trends
    }

    /// What is within the error of the rate, or a tenth of it, is no movement.
    private static func trend(from before: Double, to key: LiveKey) -> RateTrend {
        let margin = max(before * ControlLimits.trendShareMin, key.errorPerSecond)
        let change = key.accessesPerSecond - before
        return change > margin ? .rising : change < -margin ? .falling : .steady
    }
}

/// One turn of `top`.
struct TopReport: Report {
    struct Key: Encodable, Sendable {
        var live: LiveKey
        /// Of all accesses; nil while there are none.
        var share: Double?
        /// Of the key's own accesses.
        var writeShare: Double?
        /// Of the key's reads.
        var missShare: Double?
        var trend: RateTrend?

        private enum CodingKeys: String, CodingKey { case share, writeShare, missShare, trend }

        func encode(to encoder: any Encoder) throws {
            // Two containers of one encoder write into one object.
            try live.encode(to: encoder)
            var fields = encoder.container(keyedBy: CodingKeys.self)
            try fields.encodeIfPresent(share, forKey: .share)
            try fields.encodeIfPresent(writeShare, forKey: .writeShare)
            try fields.encodeIfPresent(missShare, forKey: .missShare)
            try fields.encodeIfPresent(trend, forKey: .trend)
        }
    }
    var app: String
    /// Why this turn has no rates.
    var problem: String?
    var coordinator: String?
    var agents: Int?
    var readsPerSecond: Double?
    var writesPerSecond: Double?
    var missesPerSecond: Double?
    var hotKeys: Int?
    var keys: [Key] = []
    var readAt: Timestamp

    init(_ app: String, problem: String) {
        self.app = app
        self.problem = problem
        readAt = .now
    }

    init(_ app: String, _ live: LiveStatus, trends: [PeerKey: RateTrend]) {
        self.app = app
        coordinator = live.id
        agents = live.agents
        readsPerSecond = live.readsPerSecond
        writesPerSecond = live.writesPerSecond
        missesPerSecond = live.missesPerSecond
        hotKeys = live.hotKeys
        let all = live.readsPerSecond + live.writesPerSecond
        keys = live.keys.map { key in
            let rate = key.accessesPerSecond
            return Key(
                // A sum that a report brings late may be older than the second that all traffic is taken of.
                live: key, share: all > 0 ? min(1, rate / all) : nil,
                writeShare: rate > 0 ? key.writesPerSecond / rate : nil, missShare: Self.missShare(key),
                trend: trends[key.key])
        }
        readAt = .now
    }

    func text(_ terminal: Terminal) -> String {
        if let problem { return "\(app) at \(readAt): \(DisplayText.escaped(problem))\n" }
        let all = (readsPerSecond ?? 0) + (writesPerSecond ?? 0)
        var text =
            "\(app) at \(readAt): \(NumberText.rate(all)) accesses/s, \(Self.percent(all > 0 ? (writesPerSecond ?? 0) / all : nil)) writes; "
            + "\(NumberText.count(agents ?? 0, "agent")), \(NumberText.count(hotKeys ?? 0, "hot key")), says \(coordinator ?? "?")\n\n"
        guard !keys.isEmpty else { return text + "No key was asked for in the last second.\n" }
        var table = Table(columns: [
            .key("KEY"), .number("RATE/S"), .number("±"), .number("SHARE"), .text("TREND"), .text("STATE"),
            .text("KIND"),
            .number("WRITES"), .number("MISSES"), .number("HEAT"), .text("ACTION"), .number("SINCE"),
        ])
        for key in keys {
            let live = key.live
            table.add(
                KeyName(live.key.bytes).description, NumberText.rate(live.accessesPerSecond),
                NumberText.rate(live.errorPerSecond), Self.percent(key.share), key.trend?.rawValue ?? "-",
                live.state == live.detected ? live.state : "\(live.state) (\(live.detected))", live.kind ?? "-",
                Self.percent(key.writeShare), Self.percent(key.missShare),
                live.pattern == nil ? "-" : Self.hundredths(live.heat), live.action,
                live.since.flatMap { Timestamp($0) }.map { TimeText.age($0, now: readAt) } ?? "-")
        }
        text += table.text(terminal)
        return text
    }

    private static func missShare(_ key: LiveKey) -> Double? {
        guard let misses = key.missesPerSecond, key.readsPerSecond > 0 else { return nil }
        return misses / key.readsPerSecond
    }

    static func percent(_ share: Double?) -> String {
        guard let share else { return "-" }
        return share > 0 && share < 0.01 ? "<1%" : "\(Int((share * 100).rounded()))%"
    }

    /// `5.23`: two digits behind the point.
    static func hundredths(_ value: Double) -> String {
        let hundredths = Int64((min(value, 1e12) * 100).rounded())
        return "\(hundredths / 100).\(hundredths % 100 / 10)\(hundredths % 10)"
    }
}
