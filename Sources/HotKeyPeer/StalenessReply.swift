extension AgentStatus {
    /// Local hits that were compared with their homes, since the agent's start; of several agents where they are added up.
    public struct Staleness: Codable, Sendable, Hashable {
        public struct Bucket: Codable, Sendable, Hashable {
            /// How long the values served can have been out of date at most; 0 where home had the same, nil for longer than any other
            /// bucket says.
            public var upToMilliseconds: Double?
            /// Comparisons of this bucket alone.
            public var probes: UInt64

            public init(upToMilliseconds: Double?, probes: UInt64) {
                self.upToMilliseconds = upToMilliseconds
                self.probes = probes
            }
        }
        /// Comparisons that home has answered.
        public var probes: UInt64
        /// Where home had another value.
        public var differing: UInt64
        /// Of these: values older than the staleness cap when they were served.
        public var violations: UInt64
        public var unanswered: UInt64
        /// The longest that a value served can have been out of date.
        public var worstMilliseconds: Double
        /// The shortest first; empty buckets are left out.
        public var histogram: [Bucket]

        public init(
            probes: UInt64, differing: UInt64, violations: UInt64, unanswered: UInt64, worstMilliseconds: Double,
            histogram: [Bucket]
        ) {
            self.probes = probes
            self.differing = differing
            self.violations = violations
            self.unanswered = unanswered
            self.worstMilliseconds = worstMilliseconds
            self.histogram = histogram
        }

        public static let none = Staleness(
            probes: 0, differing: 0, violations: 0, unanswered: 0, worstMilliseconds: 0, histogram: [])

        /// Sums of whatever another program says stop at the largest number instead of ending this one.
        public static func += (total: inout Staleness, part: Staleness) {
            func add(_ left: UInt64, _ right: UInt64) -> UInt64 {
                let (sum, overflow) = left.addingReportingOverflow(right)
                return overflow ? .max : sum
            }
            total.probes = add(total.probes, part.probes)
            total.differing = add(total.differing, part.differing)
            total.violations = add(total.violations, part.violations)
            total.unanswered = add(total.unanswered, part.unanswered)
            total.worstMilliseconds = max(total.worstMilliseconds, part.worstMilliseconds)
            for bucket in part.histogram {
                if let known = total.histogram.firstIndex(where: { $0.upToMilliseconds == bucket.upToMilliseconds }) {
                    total.histogram[known].probes = add(total.histogram[known].probes, bucket.probes)
                } else {
                    total.histogram.append(bucket)
                }
            }
            total.histogram.sort { ($0.upToMilliseconds ?? .infinity) < ($1.upToMilliseconds ?? .infinity) }
        }

        /// A bound that this share of the comparisons stays within; nil without any.
        /// - Parameter share: above 0, up to 1.
        public func quantileMilliseconds(_ share: Double) -> Double? {
            let all = histogram.reduce(0.0) { $0 + Double($1.probes) }
            guard all > 0 else { return nil }
            var seen = 0.0
            for bucket in histogram {
                seen += Double(bucket.probes)
                if seen >= share * all { return min(bucket.upToMilliseconds ?? .infinity, worstMilliseconds) }
            }
            return worstMilliseconds
        }
    }
}
