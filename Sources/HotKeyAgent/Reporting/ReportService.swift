import HotKeyDetection
import HotKeyRegistry
import HotKeyRules
import Logging
import NIOConcurrencyHelpers
import NIOCore
import RedisProxy

/// Collects what the event loops have counted: every half slice for the agent's own judgement, every slice for a report.
actor ReportService {
    private let proxy: ProxyServer
    private let counting: CountingNews
    private let store: ReportStore
    private let detector: LocalDetector
    private let budget: ReportBudget
    private let logger: Logger
    private let onLocalHotKeys: @Sendable ([LocalHotKey]) -> Void
    /// What the loops counted in the half slices that belong to the report under way.
    private var parts: [SliceSummary] = []
    private var halves = 0
    private var reportedAt = NIODeadline.now()
    private struct News {
        var rules: RuleSet?
        var hotKeys: Set<UInt64>?
    }
    /// In force from the next half slice on. In a box, because a call of the actor would need a task, and two tasks may come in
    /// the other order than they were made in: the older rules would stay.
    private let news = NIOLockedValueBox(News())

    init(
        proxy: ProxyServer, news: CountingNews, store: ReportStore, bytesPerSecondMax: Int, logger: Logger,
        onLocalHotKeys: @escaping @Sendable ([LocalHotKey]) -> Void
    ) {
        self.proxy = proxy
        counting = news
        self.store = store
        self.logger = logger
        self.onLocalHotKeys = onLocalHotKeys
        detector = LocalDetector(rules: .empty)
        budget = ReportBudget(bytesPerSecond: bytesPerSecondMax)
    }

    nonisolated func setRules(_ rules: RuleSet) { news.withLockedValue { $0.rules = rules } }
    nonisolated func setHotKeys(_ hashes: Set<UInt64>) { news.withLockedValue { $0.hotKeys = hashes } }

    private func takeNews() {
        let news = news.withLockedValue { news in
            defer { news = News() }
            return news
        }
        if let rules = news.rules { detector.update(rules: rules) }
        if let hashes = news.hotKeys { budget.watch(hashes: hashes) }
    }

    /// Until cancelled.
    func run() async throws {
        let half = Duration.milliseconds(DetectionLimits.localSliceMilliseconds)
        let halvesPerReport = DetectionLimits.sliceMilliseconds / DetectionLimits.localSliceMilliseconds
        var next = ContinuousClock.now
        while true {
            next += half
            // After a pause of the whole process the missed slices are one long one, not a burst of short ones.
            if ContinuousClock.now - next > .milliseconds(AgentLimits.reportLagMillisecondsMax) { next = .now }
            try await Task.sleep(until: next, clock: .continuous)
            let counted = try await collect()
            takeNews()
            judge(counted)
            parts.append(contentsOf: counted)
            halves += 1
            if halves == halvesPerReport { report() }
        }
    }

    private func collect() async throws -> [SliceSummary] {
        guard counting.take() else { return [] }
        return try await proxy.withRecorders { _, recorder in (recorder as? LoopCounter)?.drain() }.compactMap { $0 }
    }

    private func judge(_ counted: [SliceSummary]) {
        let changes = detector.observe(counted, nowNanoseconds: NIODeadline.now().uptimeNanoseconds)
        guard !changes.isEmpty else { return }
        onLocalHotKeys(
            detector.hotKeys.map {
                LocalHotKey(key: KeyName($0.key), kind: HotKind($0.kind), isCooling: $0.state == .cooling)
            })
    }

    private func report() {
        let now = NIODeadline.now()
        let milliseconds = (now - reportedAt).nanoseconds / 1_000_000
        // What is left of a millisecond belongs to the next slice: the durations add up to the time that has passed.
        reportedAt = reportedAt + .milliseconds(milliseconds)
        let duration = UInt32(clamping: min(max(1, milliseconds), Int64(DetectionLimits.reportDurationMillisecondsMax)))
        let report = budget.report(of: parts, durationMilliseconds: duration)
        parts.removeAll(keepingCapacity: true)
        halves = 0
        store.count(report.totals)
        do {
            store.append(try report.encoded(), sequence: report.sequence, hasCounts: report.totals != AccessTotals())
        } catch {
            // Its number is missing in the stream, so whoever pulls knows that a slice is.
            logger.error("a report could not be encoded", metadata: ["error": "\(error)"])
        }
    }
}
