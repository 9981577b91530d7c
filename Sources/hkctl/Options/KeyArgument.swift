import ArgumentParser
import Foundation
import HotKeyRegistry
import StrictCoding

/// The key that a verb is about.
struct KeyArgument: ParsableArguments {
    @Argument(help: "The cache key, as text.")
    var key: String

    @Flag(help: "KEY is the Base64 of the key's bytes: for keys that are not text.")
    var keyBase64 = false

    func validate() throws { _ = try name() }

    func name() throws -> KeyName {
        var name = KeyName(key)
        if keyBase64 {
            guard let data = Data(base64Encoded: key) else {
                throw ValidationError("--key-base64: '\(key)' is not Base64 with padding (RFC 4648).")
            }
            name = KeyName(Array(data))
        }
        do {
            try name.validate()
        } catch let problem as FieldProblem {
            throw ValidationError("KEY: \(problem).")
        }
        return name
    }
}

/// Why an operator changes something; stands in the history.
struct ReasonOption: ParsableArguments {
    @Option(help: ArgumentHelp("Why; it is kept in the history.", valueName: "text"))
    var reason: String?
}
