import Glibc

/// Throws random bytes at one part of the wire code until a promise is broken. `FUZZ_TARGET` names the part; the arguments are
/// libFuzzer's own.
///
/// Two programs' worth of `main` meet here: libFuzzer's, which comes with `--sanitize fuzzer`, and the one that every Swift program
/// has. The linker is told to take either (script/fuzz), and they do the same.
@main
enum Fuzz {
    static func main() {
        var arguments: [UnsafeMutablePointer<CChar>?] = CommandLine.arguments.map { strdup($0) } + [nil]
        var count = CInt(arguments.count - 1)
        let status = arguments.withUnsafeMutableBufferPointer { buffer -> CInt in
            var start = buffer.baseAddress
            return runDriver(&count, &start, testOneInput)
        }
        exit(status)
    }

    enum Target: String, CaseIterable {
        case commands, replies, values

        func run(_ bytes: UnsafeRawBufferPointer) -> CInt {
            switch self {
            case .commands: CommandsTarget.run(bytes)
            case .replies: RepliesTarget.run(bytes)
            case .values: ValuesTarget.run(bytes)
            }
        }
    }

    static let target: Target = {
        let name = getenv("FUZZ_TARGET").map { String(cString: $0) } ?? ""
        guard let target = Target(rawValue: name) else {
            print("FUZZ_TARGET: expected \(Target.allCases.map(\.rawValue).joined(separator: ", ")), found '\(name)'")
            exit(2)
        }
        return target
    }()
}

typealias Callback = @convention(c) (UnsafeRawPointer?, Int) -> CInt

@_cdecl("LLVMFuzzerTestOneInput")
func testOneInput(_ start: UnsafeRawPointer?, _ count: Int) -> CInt {
    Fuzz.target.run(UnsafeRawBufferPointer(start: start, count: count))
}

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
