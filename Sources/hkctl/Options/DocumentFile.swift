import ArgumentParser
import Foundation
import HotKeyRegistry

/// A document in a file, JSON or YAML; `-` is standard input.
struct DocumentFile: ParsableArguments {
    @Argument(help: "A file in JSON or YAML; '-' reads standard input.")
    var file: String

    var name: String { file == "-" ? "standard input" : file }

    /// Reads no more than such a document may have. Errors name the line and the field.
    func read<Document: RegistryDocument>(_ type: Document.Type) throws -> Document {
        try RegistryCodec.decode(type, from: bytes(max: Document.bytesMax), source: name)
    }

    private func bytes(max: Int) throws -> [UInt8] { try InputFile.bytes(file, name: name, max: max) }
}

/// A file or standard input, read with a bound.
enum InputFile {
    /// A document that is read for itself and changes nothing. Errors name the line and the field.
    static func document<Document: RegistryDocument>(_ type: Document.Type, in file: String) throws -> Document {
        let source = file == "-" ? "standard input" : file
        return try RegistryCodec.decode(type, from: bytes(file, name: source, max: Document.bytesMax), source: source)
    }

    static func bytes(_ file: String, name: String, max: Int) throws -> [UInt8] {
        do {
            let handle =
                file == "-" ? FileHandle.standardInput : try FileHandle(forReadingFrom: URL(fileURLWithPath: file))
            var bytes: [UInt8] = []
            // One byte more than is allowed, so that the decoder sees that it is too long.
            while bytes.count <= max, let chunk = try handle.read(upToCount: max + 1 - bytes.count), !chunk.isEmpty {
                bytes += chunk
            }
            return bytes
        } catch {
            throw Failure(.failed, "\(name) cannot be read: \(Self.reason(error))", "Nothing was changed.")
        }
    }

    /// Foundation wraps what the system said.
    static func reason(_ error: any Error) -> String {
        var error = error as NSError
        while let inner = error.userInfo[NSUnderlyingErrorKey] as? NSError { error = inner }
        return error.domain == NSPOSIXErrorDomain ? String(cString: strerror(Int32(error.code))) : "\(error)"
    }
}
