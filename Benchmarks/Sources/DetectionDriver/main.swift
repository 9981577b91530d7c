// The measured side of script/bench detection. Prints one JSON object.
//
// usage: DetectionDriver record|report|merge|memory|top [SEED]
//
//   record   counting at one agent's event loop: 1,000,000 keys under Zipf 0.99, a slice drained every 50 ms of accesses
//   report   judging and reporting what two loops counted: 200,000 accesses a second over 100,000 keys
//   merge    merging at the coordinator: frames of 1,000 agents, each as full as its budget allows
//   top      HK.TOP at the coordinator: the busiest of 100,000 keys
//   memory   everything an agent and a coordinator hold while 10,000,000 distinct keys a minute come by

import AllocationCount
import Foundation
import HotKeyDetection

let arguments = CommandLine.arguments
guard (2...3).contains(arguments.count), let seed = arguments.count == 3 ? UInt64(arguments[2]) : 1 else { usage() }
var generator = SplitMix(state: seed)
switch arguments[1] {
case "record": record(&generator)
case "report": try reportCost(&generator)
case "merge": try merge(&generator)
case "memory": try memory(&generator)
case "top": try top()
default: usage()
}

func usage() -> Never {
    FileHandle.standardError.write(Data("usage: DetectionDriver record|report|merge|memory|top [SEED]\n".utf8))
    exit(2)
}

/// Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

/// Processor time of this thread, in seconds.
func processorSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}

func report(_ values: [String: Double]) {
    print("{\(values.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\($0.value)" }.joined(separator: ","))}")
}
