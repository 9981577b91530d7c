import Glibc

/// `Fuzz TARGET [libFuzzer's own arguments]`: throws random bytes at one part of the wire code until a promise is broken.
@main
enum Fuzz {
    static func main() {
        var arguments = CommandLine.arguments
        guard arguments.count > 1, let target = Target(rawValue: arguments.remove(at: 1)) else {
            print("usage: Fuzz \(Target.allCases.map(\.rawValue).joined(separator: "|")) [OPTION…] [DIRECTORY…]")
            exit(2)
        }
        var pointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) } + [nil]
        var count = CInt(arguments.count)
        let status = pointers.withUnsafeMutableBufferPointer { buffer -> CInt in
            var start = buffer.baseAddress
            return runDriver(&count, &start, target.callback)
        }
        exit(status)
    }

    enum Target: String, CaseIterable {
        case commands, replies, values

        var callback: Callback {
            switch self {
            case .commands: { CommandsTarget.run(UnsafeRawBufferPointer(start: $0, count: $1)) }
            case .replies: { RepliesTarget.run(UnsafeRawBufferPointer(start: $0, count: $1)) }
            case .values: { ValuesTarget.run(UnsafeRawBufferPointer(start: $0, count: $1)) }
            }
        }
    }
}

typealias Callback = @convention(c) (UnsafeRawPointer?, Int) -> CInt

/// `FuzzerInterface`'s entry for programs that have a `main` of their own: `compiler-rt/lib/fuzzer/FuzzerDriver.cpp`.
@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ count: UnsafeMutablePointer<CInt>,
    _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>?>,
    _ callback: Callback
) -> CInt

/// Ends the process, which the fuzzer reports with the input.
func require(_ condition: Bool, _ promise: @autoclosure () -> String) {
    if !condition { fatalError("broken: \(promise())") }
}
