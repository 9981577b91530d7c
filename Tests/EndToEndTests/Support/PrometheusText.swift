import HotKeyTestSupport

/// A page of metrics in Prometheus' text format 0.0.4, read strictly: what a scraper might forgive is an error here.
struct PrometheusText {
    struct Sample: Hashable {
        var name: String
        var labels: [String: String]
    }
    struct Family {
        var type: String
        var help: String
        var samples: [(sample: Sample, value: Double)] = []
    }
    private(set) var families: [String: Family] = [:]
    private var seen: Set<Sample> = []

    /// The value of a metric with one sample.
    func value(_ name: String) throws -> Double {
        guard let family = families[name], family.samples.count == 1 else {
            throw TestSupportError(.malformedReply, "no metric \(name) with one sample")
        }
        return family.samples[0].value
    }

    init(_ text: String) throws {
        guard text.hasSuffix("\n") else { throw Self.error("the last line", "has no line feed") }
        var current: String?
        var help: (name: String, text: String)?
        for line in text.dropLast().split(separator: "\n", omittingEmptySubsequences: false).map(String.init) {
            let words = line.split(separator: " ", maxSplits: 3, omittingEmptySubsequences: false).map(String.init)
            if line.hasPrefix("# HELP ") {
                guard words.count == 4, Self.isName(words[2]), !words[3].isEmpty, families[words[2]] == nil else {
                    throw Self.error(line, "is no HELP of a new metric")
                }
                help = (words[2], words[3])
            } else if line.hasPrefix("# TYPE ") {
                guard words.count == 4, let described = help, words[2] == described.name,
                    ["counter", "gauge", "histogram"].contains(words[3])
                else { throw Self.error(line, "does not follow its HELP, or is of no type") }
                families[words[2]] = Family(type: words[3], help: described.text)
                current = words[2]
                help = nil
            } else {
                guard let current, help == nil else { throw Self.error(line, "follows no TYPE") }
                try add(line, to: current)
            }
        }
        for (name, family) in families { try Self.check(name, family) }
    }

    private mutating func add(_ line: String, to family: String) throws {
        guard let space = line.lastIndex(of: " ") else { throw Self.error(line, "has no value") }
        let text = line[line.index(after: space)...]
        guard let value = text == "+Inf" ? .infinity : Double(text) else { throw Self.error(line, "has no number") }
        let sample = try Self.sample(String(line[..<space]), line)
        let suffixes = families[family]!.type == "histogram" ? ["_bucket", "_sum", "_count"] : [""]
        guard suffixes.contains(where: { sample.name == family + $0 }) else {
            throw Self.error(line, "is no sample of \(family)")
        }
        guard seen.insert(sample).inserted else { throw Self.error(line, "stands twice") }
        families[family]!.samples.append((sample, value))
    }

    /// `name` or `name{label="value",…}`
    private static func sample(_ text: String, _ line: String) throws -> Sample {
        guard let brace = text.firstIndex(of: "{") else {
            guard isName(text) else { throw error(line, "has a bad name") }
            return Sample(name: text, labels: [:])
        }
        var sample = Sample(name: String(text[..<brace]), labels: [:])
        guard isName(sample.name), text.hasSuffix("}") else { throw error(line, "has a bad name or no closing brace") }
        var rest = text[text.index(after: brace)...].dropLast()
        while !rest.isEmpty {
            guard let equals = rest.firstIndex(of: "="), isName(String(rest[..<equals])) else {
                throw error(line, "has a bad label")
            }
            let label = String(rest[..<equals])
            rest = rest[rest.index(after: equals)...]
            guard rest.first == "\"" else { throw error(line, "has a label without a quoted value") }
            rest = rest.dropFirst()
            var value = ""
            while let character = rest.first, character != "\"" {
                rest = rest.dropFirst()
                guard character == "\\" else {
                    value.append(character)
                    continue
                }
                guard let escaped = rest.first, ["\\", "\"", "n"].contains(escaped) else {
                    throw error(line, "has an unknown escape")
                }
                value.append(escaped == "n" ? "\n" : escaped)
                rest = rest.dropFirst()
            }
            guard rest.first == "\"" else { throw error(line, "has a value without an end") }
            rest = rest.dropFirst()
            guard sample.labels.updateValue(value, forKey: label) == nil else { throw error(line, "repeats a label") }
            if rest.first == "," {
                rest = rest.dropFirst()
            } else if !rest.isEmpty {
                throw error(line, "lacks a comma")
            }
        }
        return sample
    }

    private static func check(_ name: String, _ family: Family) throws {
        if family.type == "counter" {
            guard name.hasSuffix("_total") else { throw error(name, "is a counter whose name does not end in _total") }
            guard family.samples.allSatisfy({ $0.value >= 0 }) else { throw error(name, "is a negative counter") }
        }
        guard family.type == "histogram" else { return }
        var buckets: [[String: String]: [(bound: String, count: Double)]] = [:]
        var counts: [[String: String]: Double] = [:]
        for (sample, value) in family.samples {
            if sample.name == name + "_bucket" {
                var labels = sample.labels
                guard let bound = labels.removeValue(forKey: "le") else { throw error(name, "has a bucket without le") }
                buckets[labels, default: []].append((bound, value))
            } else if sample.name == name + "_count" {
                counts[sample.labels] = value
            }
        }
        guard Set(buckets.keys) == Set(counts.keys) else { throw error(name, "has buckets without a count") }
        for (labels, buckets) in buckets {
            let bounds = buckets.map { $0.bound == "+Inf" ? .infinity : Double($0.bound) ?? .nan }
            let isAscending = zip(bounds, bounds.dropFirst()).allSatisfy { $0 < $1 }
            let isCumulative = zip(buckets, buckets.dropFirst()).allSatisfy { $0.count <= $1.count }
            guard isAscending, isCumulative, bounds.last == .infinity, buckets.last?.count == counts[labels] else {
                throw error(name, "has buckets that do not add up: \(buckets)")
            }
        }
    }

    private static func isName(_ text: String) -> Bool {
        guard let first = text.utf8.first, !(UInt8(ascii: "0")...UInt8(ascii: "9")).contains(first) else {
            return false
        }
        return text.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: ":"):
                true
            default: false
            }
        }
    }

    private static func error(_ line: String, _ what: String) -> TestSupportError {
        TestSupportError(.malformedReply, "metrics: \(String(reflecting: line)) \(what)")
    }
}
