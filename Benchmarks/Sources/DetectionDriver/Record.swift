import AllocationCount
import Foundation
import HotKeyDetection

/// Names of one length, one after the other.
struct KeyNames {
    private let bytes: [UInt8]
    private let length: Int

    /// - Parameter count: at most 10^9.
    init(count: Int) {
        let names = (0..<count).map { "user:session:" + String(1_000_000_000 + $0).dropFirst() }
        length = names[0].utf8.count
        bytes = names.flatMap { Array($0.utf8) }
    }

    func with<Result>(_ body: (UnsafeRawBufferPointer, _ length: Int) -> Result) -> Result {
        bytes.withUnsafeBytes { body($0, length) }
    }
}

func record(_ generator: inout SplitMix) {
    let keyCount = 1_000_000
    let accesses = 1 << 22
    let rounds = 10
    let zipf = Zipf(ranks: keyCount, exponent: 0.99)
    var places = Array(0..<keyCount)
    places.shuffle(using: &generator)
    let names = KeyNames(count: keyCount)
    // One name after the other in the order of the requests, as they come out of a socket.
    var length = 0
    var requests: [UInt8] = []
    var hashes: [UInt64] = []
    hashes.reserveCapacity(accesses)
    names.with { bytes, size in
        length = size
        requests.reserveCapacity(accesses * size)
        for _ in 0..<accesses {
            let place = places[zipf.rank(&generator)]
            let key = UnsafeRawBufferPointer(rebasing: bytes[place * size..<(place + 1) * size])
            requests.append(contentsOf: key)
            hashes.append(KeyHash.hash(key, seed: 7))
        }
    }
    let counter = SliceCounter()

    /// Seconds for the whole stream, and allocations between drains.
    func run(slice: Int, hashing: Bool) -> (seconds: Double, draining: Double, allocations: UInt64) {
        var allocations: UInt64 = 0
        var draining = 0.0
        let started = processorSeconds()
        requests.withUnsafeBytes { requests in
            hashes.withUnsafeBufferPointer { hashes in
                var next = 0
                while next < accesses {
                    let end = min(accesses, next + slice)
                    let before = allocation_count()
                    while next < end {
                        let key = UnsafeRawBufferPointer(rebasing: requests[next * length..<(next + 1) * length])
                        let hash = hashing ? KeyHash.hash(key, seed: 7) : hashes[next]
                        _ = counter.record(key: key, hash: hash, reads: 1, writes: 0)
                        next += 1
                    }
                    allocations += allocation_count() - before
                    let filled = processorSeconds()
                    _ = counter.drain()
                    draining += processorSeconds() - filled
                }
            }
        }
        return (processorSeconds() - started, draining, allocations)
    }

    // As many accesses a slice as 50 ms hold at 20 million a second, and at a million a second: a busy loop's.
    var values: [String: Double] = [:]
    for (name, slice) in [("full", 1_000_000), ("busy", 50_000)] {
        for hashing in [false, true] {
            _ = run(slice: slice, hashing: hashing)
            var best = (seconds: Double.infinity, draining: 0.0, allocations: UInt64(0))
            var allocations: UInt64 = 0
            for _ in 0..<rounds {
                let round = run(slice: slice, hashing: hashing)
                allocations += round.allocations
                if round.seconds < best.seconds { best = round }
            }
            let label = name + (hashing ? "Hashing" : "")
            values["\(label)MillionPerSecond"] = Double(accesses) / best.seconds / 1e6
            values["\(label)DrainShare"] = best.draining / best.seconds
            values["\(label)Allocations"] = Double(allocations)
        }
    }
    report(values)
}
