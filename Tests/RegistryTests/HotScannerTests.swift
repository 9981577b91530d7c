import HotKeyRegistry
import HotKeyTestSupport
import StrictCoding
import Testing

/// The quick way of reading the hot set's nodes agrees with the strict decoder wherever it has an opinion.
@Suite struct HotScannerTests {
    private func strict<Document: RegistryDocument>(_ type: Document.Type, _ bytes: [UInt8]) -> Document? {
        try? StrictDecoder.decode(type, from: bytes, source: "node", bytesMax: Document.bytesMax)
    }

    private func name(_ random: inout SeededGenerator) -> KeyName {
        switch Int.random(in: 0..<24, using: &random) {
        case 0: KeyName((0..<Int.random(in: 0..<20, using: &random)).map { _ in .random(in: 0...255, using: &random) })
        case 1: KeyName("naïve:🔑:\(Int.random(in: 0..<100, using: &random))")
        case 2: "a\"b\\c\n"
        case 3: KeyName([UInt8](repeating: 0x61, count: RegistryLimits.keyBytesMax))
        default: KeyName("item:\(Int.random(in: 0..<1_000_000, using: &random))")
        }
    }

    private func rate(_ random: inout SeededGenerator) -> Double {
        switch Int.random(in: 0..<40, using: &random) {
        case 0: 0
        case 1: Double.random(in: 0...1e15, using: &random)
        case 2: Double.random(in: 0...1e-7, using: &random)
        default: Double(Int.random(in: 0...100_000, using: &random)) / 4
        }
    }

    private func record(_ key: KeyName, _ random: inout SeededGenerator) -> HotRecord {
        let copies = Bool.random(using: &random) ? Int.random(in: 0...RegistryLimits.copiesMax, using: &random) : nil
        return HotRecord(
            key: key, state: [.candidate, .hot, .cooling].randomElement(using: &random)!,
            kind: HotKind.allCases.randomElement(using: &random)!, readsPerSecond: rate(&random),
            writesPerSecond: rate(&random), bytesPerSecond: rate(&random), missesPerSecond: rate(&random),
            errorPerSecond: rate(&random),
            copies: copies,
            copyState: copies ?? 0 > 0 && Bool.random(using: &random)
                ? CopyState.allCases.randomElement(using: &random) : nil,
            sources: Bool.random(using: &random) ? ["agents", "flink-1"] : [],
            since: Timestamp(millisecondsSince1970: .random(in: 0...2_000_000_000_000, using: &random)))
    }

    private func head(_ random: inout SeededGenerator) -> HotHead {
        let version = Int64.random(in: 1...1 << 53, using: &random)
        var bound = version
        let changes = (0..<Int.random(in: 0..<12, using: &random)).map { _ in
            bound = Int64.random(in: max(1, bound - 3)...bound, using: &random)
            let key = name(&random)
            return HotChange(
                version: bound, key: key, record: Bool.random(using: &random) ? record(key, &random) : nil)
        }
        return HotHead(
            epoch: .random(in: 0...1 << 53, using: &random), version: version,
            publishedAt: Timestamp(millisecondsSince1970: .random(in: 0...2_000_000_000_000, using: &random)),
            coordinator: Bool.random(using: &random) ? "host-1" : "",
            buckets: (0..<RegistryLimits.bucketCount).map { _ in .random(in: 0...version, using: &random) },
            changes: changes)
    }

    private func bucket(_ random: inout SeededGenerator) -> HotBucket {
        let names = Set((0..<400).map { _ in name(&random) })
        let bucket = names.first!.bucket
        return HotBucket(
            version: .random(in: 0...1 << 53, using: &random),
            keys: names.filter { $0.bucket == bucket }.sorted().map { record($0, &random) })
    }

    private func agree<Document: RegistryDocument>(
        _ document: Document, _ random: inout SeededGenerator
    ) throws -> Bool {
        let bytes = try RegistryCodec.encode(document, source: "node")
        #expect(strict(Document.self, bytes) == document, "seed \(random.seed)")
        let scanned = Document.scan(bytes)
        #expect(scanned == nil || scanned == document, "seed \(random.seed)")
        for _ in 0..<40 {
            var mutated = bytes
            let place = Int.random(in: 0..<bytes.count, using: &random)
            switch Int.random(in: 0..<5, using: &random) {
            case 0: mutated.remove(at: place)
            case 1: mutated[place] = .random(in: 0...255, using: &random)
            case 2: mutated.insert(Array("0123456789,:\"{}[]-.e \\".utf8).randomElement(using: &random)!, at: place)
            case 3: mutated.insert(contentsOf: bytes[place..<min(place + 30, bytes.count)], at: place)
            default: mutated.removeLast(bytes.count - place)
            }
            guard let scanned = Document.scan(mutated) else { continue }
            let decoded = strict(Document.self, mutated)
            #expect(scanned == decoded, "seed \(random.seed): \(String(decoding: mutated, as: UTF8.self))")
        }
        return scanned != nil
    }

    @Test func agreesWithTheStrictDecoder() throws {
        var random = SeededGenerator(printing: "hot scanner")
        var heads = 0
        var buckets = 0
        for _ in 0..<400 {
            if try agree(head(&random), &random) { heads += 1 }
            if try agree(bucket(&random), &random) { buckets += 1 }
        }
        // Only escapes and exponents are left to the strict decoder.
        #expect(heads > 20 && buckets > 20, "heads \(heads), buckets \(buckets)")
    }

    @Test func readsWhatIsPublished() throws {
        let record = HotRecord(
            key: "item:42", state: .hot, readsPerSecond: 5230.25, copies: 3, sources: ["agents"],
            since: Timestamp("2026-11-22T10:00:00.123Z")!)
        let head = HotHead(
            epoch: 3, version: 2, publishedAt: record.since, coordinator: "host-1",
            changes: [
                HotChange(version: 2, key: "x", record: nil), HotChange(version: 1, key: "item:42", record: record),
            ])
        #expect(HotHead.scan(try RegistryCodec.encode(head, source: "node")) == head)
        let bucket = HotBucket(version: 2, keys: [record])
        #expect(HotBucket.scan(try RegistryCodec.encode(bucket, source: "node")) == bucket)
    }

    @Test func leavesEverythingElseToTheStrictDecoder() {
        for text in [
            #"{"keys":[],"schema":2,"version":1}"#, #"{"keys":[],"schema":1,"version":1} "#,
            #"{"keys":[],"schema":1,"version":-1}"#, #"{"keys":[],"schema":1,"version":01}"#,
            #"{"keys":[],"schema":1,"unknown":0,"version":1}"#, #"{"schema":1,"keys":[],"version":1}"#,
            #"{"keys":[],"schema":1,"version":1.0}"#, #"{"keys":[],"schema":1,"version":9007199254740993}"#,
        ] {
            #expect(HotBucket.scan(Array(text.utf8)) == nil, "\(text)")
        }
    }
}
