import Testing

@testable import HotKeyDetection

@Suite struct ReportTests {
    static func random(_ generator: inout SeededGenerator) -> Report {
        func value() -> UInt64 { generator.next() >> UInt64.random(in: 0...63, using: &generator) }
        return Report(
            sequence: max(1, value()), durationMilliseconds: UInt32.random(in: 1...600_000, using: &generator),
            totals: AccessTotals(reads: value(), writes: value(), replyBytes: value(), misses: value()),
            unlistedBound: value(),
            entries: (0..<Int.random(in: 0...20, using: &generator)).map { _ in
                Report.Entry(
                    key: (0..<Int.random(in: 0...40, using: &generator)).map { _ in
                        UInt8.random(in: 0...255, using: &generator)
                    },
                    reads: value(), writes: value(), replyBytes: value(), misses: value(), error: value(),
                    sliceSpan: UInt32.random(in: 1...10, using: &generator))
            })
    }

    @Test func roundTrip() throws {
        var generator = SeededGenerator(seed: 11)
        for _ in 0..<500 {
            let report = Self.random(&generator)
            #expect(try Report(decoding: try report.encoded()) == report)
        }
    }

    /// The example of docs/detection.md: a reader in another language can check itself against it.
    @Test func documentedExample() throws {
        let report = Report(
            sequence: 300, durationMilliseconds: 100,
            totals: AccessTotals(reads: 1_000, writes: 5, replyBytes: 70_000, misses: 40), unlistedBound: 2,
            entries: [
                Report.Entry(key: bytes("item:42"), reads: 523),
                Report.Entry(key: bytes("x"), reads: 9, writes: 1, replyBytes: 128, misses: 6, error: 3, sliceSpan: 10),
            ])
        let frame: [UInt8] = [
            0x48, 0x4B, 0x02, 0xAC, 0x02, 0x64, 0xE8, 0x07, 0x05, 0xF0, 0xA2, 0x04, 0x28, 0x02, 0x02,
            0x00, 0x07, 0x69, 0x74, 0x65, 0x6D, 0x3A, 0x34, 0x32, 0x8B, 0x04,
            0x1F, 0x01, 0x78, 0x09, 0x01, 0x80, 0x01, 0x03, 0x0A, 0x06,
        ]
        #expect(try report.encoded() == frame)
        #expect(try Report(decoding: frame) == report)
    }

    /// What an agent of the version before sends: no misses, neither in the head nor behind a flag.
    @Test func theFormatBeforeIsUnderstood() throws {
        let frame: [UInt8] = [
            0x48, 0x4B, 0x01, 0xAC, 0x02, 0x64, 0xE8, 0x07, 0x05, 0xF0, 0xA2, 0x04, 0x02, 0x02,
            0x00, 0x07, 0x69, 0x74, 0x65, 0x6D, 0x3A, 0x34, 0x32, 0x8B, 0x04,
            0x0F, 0x01, 0x78, 0x09, 0x01, 0x80, 0x01, 0x03, 0x0A,
        ]
        let report = Report(
            sequence: 300, durationMilliseconds: 100,
            totals: AccessTotals(reads: 1_000, writes: 5, replyBytes: 70_000), unlistedBound: 2,
            entries: [
                Report.Entry(key: bytes("item:42"), reads: 523),
                Report.Entry(key: bytes("x"), reads: 9, writes: 1, replyBytes: 128, error: 3, sliceSpan: 10),
            ])
        #expect(try Report(decoding: frame) == report)
        #expect(throws: DetectionError.self) {
            try Report(decoding: [0x48, 0x4B, 1, 1, 100, 0, 0, 0, 0, 1, 0x10, 0, 1, 1])
        }
    }

    @Test func everyTruncationIsRefused() throws {
        var generator = SeededGenerator(seed: 12)
        let frame = try Self.random(&generator).encoded()
        for length in 0..<frame.count {
            #expect(throws: DetectionError.self) { try Report(decoding: Array(frame[..<length])) }
        }
        #expect(throws: DetectionError.self) { try Report(decoding: frame + [0]) }
    }

    /// What decodes must encode to the same bytes; what does not must say so. Neither may crash.
    @Test(arguments: [UInt64](21...24))
    func damagedFramesAreRefusedOrMeanWhatTheySay(fuzzSeed: UInt64) throws {
        var generator = SeededGenerator(seed: fuzzSeed)
        var refused = 0
        for _ in 0..<2_000 {
            var frame = try Self.random(&generator).encoded()
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let place = Int.random(in: 0..<frame.count, using: &generator)
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: frame[place] = UInt8.random(in: 0...255, using: &generator)
                case 1: frame.insert(UInt8.random(in: 0...255, using: &generator), at: place)
                default: if frame.count > 1 { frame.remove(at: place) }
                }
            }
            do {
                let report = try Report(decoding: frame)
                let again = try report.encoded()
                if frame[2] == ReportFormat.version {
                    #expect(again == frame, "seed \(fuzzSeed)")
                } else {
                    #expect(try Report(decoding: again) == report, "seed \(fuzzSeed)")
                }
            } catch let error as DetectionError {
                #expect(error.code == .malformedReport)
                refused += 1
            }
        }
        #expect(refused > 500)
    }

    @Test(arguments: [
        ([0x48], "byte 1, magic"), ([0x47, 0x4B, 1], "byte 0, magic"), ([0x48, 0x4B, 3], "expected 1 or 2, found 3"),
        ([0x48, 0x4B, 2, 0], "byte 3, sequence"), ([0x48, 0x4B, 2, 1, 0], "byte 4, duration"),
        ([0x48, 0x4B, 2, 0x81, 0x00], "shortest encoding"),
        ([0x48, 0x4B, 2, 1, 100, 0, 0, 0, 0, 0, 0xFF, 0x7F], "entry count: expected 0 to 4"),
        ([0x48, 0x4B, 1, 1, 100, 0, 0, 0, 0, 1, 0x10, 0, 0], "entry flags: unknown flags"),
        ([0x48, 0x4B, 2, 1, 100, 0, 0, 0, 0, 0, 1, 0x10, 0, 1, 0], "misses: expected 1 to"),
        ([0x48, 0x4B, 2, 1, 100, 0, 0, 0, 0, 0, 1, 0x20, 0, 0], "entry flags: unknown flags"),
        ([0x48, 0x4B, 2, 1, 100, 0, 0, 0, 0, 0, 1, 0, 9, 0], "key: expected 9 bytes"),
        ([0x48, 0x4B, 2, 1, 100, 0, 0, 0, 0, 0, 1, 8, 0, 1, 11], "slice span: expected 2 to 10"),
        ([0x48, 0x4B, 1] + [UInt8](repeating: 0xFF, count: 10), "at most 64 bits"),
    ])
    func errorsNameThePlace(frame: [UInt8], text: String) {
        #expect {
            try Report(decoding: frame)
        } throws: { error in
            (error as? DetectionError)?.message.contains(text) == true
        }
    }

    @Test func oversizedFramesAreRefused() {
        let long = Report.Entry(key: [UInt8](repeating: 1, count: 1_024), reads: 1)
        #expect(throws: DetectionError.self) {
            try Report(sequence: 1, entries: Array(repeating: long, count: 64)).encoded()
        }
        #expect(throws: DetectionError.self) {
            try Report(sequence: 1, entries: [Report.Entry(key: [UInt8](repeating: 1, count: 1_025), reads: 1)])
                .encoded()
        }
    }

    @Test func ringKeepsTheLastFrames() {
        var ring = ReportRing(epoch: 9, retentionMilliseconds: 1_000)
        #expect(ring.lastSequence == 0 && ring.frames(after: 0).isEmpty)
        for sequence in UInt64(1)...25 { ring.append([UInt8(sequence)], sequence: sequence) }
        #expect(ring.lastSequence == 25)
        #expect(ring.frames(after: 0).map(\.sequence) == [UInt64](16...25))
        #expect(ring.frames(after: 22).map(\.bytes) == [[23], [24], [25]])
        #expect(ring.frames(after: 0, framesMax: 2).map(\.sequence) == [16, 17])
        #expect(ring.frames(after: 25).isEmpty)
    }
}
