import Foundation

/// What a running process holds, as the kernel says.
struct ProcessUsage: Sendable, Hashable, CustomStringConvertible {
    var residentKilobytes: Int
    var threads: Int
    var descriptors: Int

    /// Nil when the process has ended.
    init?(of process: Int32) {
        guard let status = try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8),
            let open = try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/fd")
        else { return nil }
        func number(_ name: String) -> Int? {
            status.split(separator: "\n").first { $0.hasPrefix("\(name):") }
                .flatMap { Int($0.filter(\.isNumber)) }
        }
        guard let resident = number("VmRSS"), let threads = number("Threads") else { return nil }
        residentKilobytes = resident
        self.threads = threads
        descriptors = open.count
    }

    var description: String { "\(residentKilobytes) KiB, \(threads) threads, \(descriptors) descriptors" }
}
