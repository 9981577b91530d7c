import Testing

@testable import HotKeyAgent
@testable import RedisProxy

@Suite struct MetricsTextTests {
    @Test func countersAndGaugesAreOneSampleWithHelpAndType() {
        var metrics = MetricsText()
        metrics.counter("a_total", "Things.", 18_446_744_073_709_551_615)
        metrics.gauge("b", "Others.", -3)
        metrics.gauge("c_seconds", "Seconds.", 0.25)
        #expect(
            metrics.text == """
                # HELP a_total Things.
                # TYPE a_total counter
                a_total 18446744073709551615
                # HELP b Others.
                # TYPE b gauge
                b -3
                # HELP c_seconds Seconds.
                # TYPE c_seconds gauge
                c_seconds 0.25

                """)
    }

    @Test func labelValuesAreEscaped() {
        var metrics = MetricsText()
        metrics.labelled(
            "n", "gauge", "Help.", label: "node",
            [("plain", 1), ("a\"b", 2), ("a\\b", 3), ("a\nb", 4), ("a\r\nb", 5), ("ä", 6)])
        let samples = metrics.text.split(separator: "\n", omittingEmptySubsequences: false).dropFirst(2)
        #expect(
            samples.map { Array($0.utf8) }
                == [
                    "n{node=\"plain\"} 1", "n{node=\"a\\\"b\"} 2", "n{node=\"a\\\\b\"} 3", "n{node=\"a\\nb\"} 4",
                    "n{node=\"a\r\\nb\"} 5", "n{node=\"ä\"} 6", "",
                ].map { Array($0.utf8) })
    }

    @Test func aHistogramIsCumulativeAndEndsWithInfinity() throws {
        var histogram = LatencyHistogram()
        // Up to 16.384 µs, up to 32.768 µs, and longer than the last bound.
        histogram.record(nanoseconds: 1)
        histogram.record(nanoseconds: 16_383)
        histogram.record(nanoseconds: 20_000)
        histogram.record(nanoseconds: 60_000_000_000)
        var metrics = MetricsText()
        metrics.histogram("h_seconds", "Help.", label: "node", [("a", histogram)])
        let lines = metrics.text.split(separator: "\n").map(String.init)
        let buckets = lines.filter { $0.hasPrefix("h_seconds_bucket") }
        #expect(lines[1] == "# TYPE h_seconds histogram")
        #expect(buckets.count == LatencyHistogram.bucketCount)
        #expect(buckets.first == "h_seconds_bucket{node=\"a\",le=\"1.6384e-05\"} 2")
        #expect(buckets[1] == "h_seconds_bucket{node=\"a\",le=\"3.2768e-05\"} 3")
        #expect(buckets.last == "h_seconds_bucket{node=\"a\",le=\"+Inf\"} 4")
        #expect(lines.suffix(2) == ["h_seconds_sum{node=\"a\"} 60.000036384", "h_seconds_count{node=\"a\"} 4"])
        let counts = try buckets.map { try #require(Int($0.split(separator: " ").last!)) }
        #expect(counts == counts.sorted())
    }
}
