import Foundation
import StrictCoding

/// The last view on disk: what an agent starts from when ZooKeeper is down.
///
/// Line 1 is a header in JSON (format, checksum and length of the rest, whose view it is), the rest is the view in JSON. The
/// file is replaced as a whole: written beside it, forced to disk, renamed, and the directory forced to disk. A crash leaves
/// the old view or the new one.
struct ViewFile: Sendable {
    private struct Header: Codable {
        var format: Int
        var root: String
        var app: String
        var bytes: Int
        /// FNV-1a, 64 bits, hexadecimal: against torn and rotten files, not against forgery.
        var checksum: String
        enum CodingKeys: String, CodingKey, CaseIterable { case format, root, app, bytes, checksum }
    }

    static let format = 1
    let directory: String
    let paths: RegistryPaths
    var path: String { "\(directory)/view-\(paths.app).json" }

    /// Nil when there is none. Throws ``RegistryError/Code/stateDirectory`` when there is one that cannot be used.
    func load() throws -> Subscription.Saved? {
        let url = URL(fileURLWithPath: path)
        guard FileManager.default.fileExists(atPath: path) else { return nil }
        do {
            let size = try FileManager.default.attributesOfItem(atPath: path)[.size] as? Int ?? 0
            guard size <= RegistryLimits.viewFileBytesMax else { throw damaged("it has \(size) bytes") }
            let bytes = [UInt8](try Data(contentsOf: url))
            guard let newline = bytes.firstIndex(of: UInt8(ascii: "\n")) else { throw damaged("it has no header") }
            let header = try StrictDecoder.decode(Header.self, from: Array(bytes[..<newline]), source: path)
            let body = Array(bytes[(newline + 1)...])
            guard header.format == Self.format else { throw damaged("its format is \(header.format)") }
            guard header.root == paths.root, header.app == paths.app.description else {
                throw damaged("it is of \(header.root)/\(header.app)")
            }
            guard header.bytes == body.count, header.checksum == Self.checksum(body) else {
                throw damaged("its checksum does not fit")
            }
            return try StrictDecoder.decode(
                Subscription.Saved.self, from: body, source: path, bytesMax: RegistryLimits.viewFileBytesMax)
        } catch let error as RegistryError {
            throw error
        } catch {
            throw RegistryError(.stateDirectory, "the saved view \(path) cannot be read: \(error)", path: path)
        }
    }

    /// Returns the bytes written.
    func save(_ view: Subscription.Saved) throws -> Int {
        let body = try StrictEncoder.encode(view, source: path)
        let header = try StrictEncoder.encode(
            Header(
                format: Self.format, root: paths.root, app: paths.app.description, bytes: body.count,
                checksum: Self.checksum(body)), source: path)
        let bytes = header + [UInt8(ascii: "\n")] + body
        try FileManager.default.createDirectory(
            atPath: directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        let temporary = "\(path).new"
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw failure("open \(temporary)") }
        do {
            defer { close(descriptor) }
            var offset = 0
            while offset < bytes.count {
                let written = bytes[offset...].withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
                if written < 0, errno == EINTR { continue }
                guard written > 0 else { throw failure("write \(temporary)") }
                offset += written
            }
            guard fsync(descriptor) == 0 else { throw failure("force \(temporary) to disk") }
        }
        guard rename(temporary, path) == 0 else { throw failure("rename \(temporary)") }
        let parent = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard parent >= 0 else { throw failure("open \(directory)") }
        defer { close(parent) }
        guard fsync(parent) == 0 else { throw failure("force \(directory) to disk") }
        return bytes.count
    }

    private static func checksum(_ bytes: [UInt8]) -> String { String(FNV1a.hash64(bytes), radix: 16) }

    private func damaged(_ what: String) -> RegistryError {
        RegistryError(.stateDirectory, "the saved view \(path) is not usable: \(what)", path: path)
    }

    private func failure(_ what: String) -> RegistryError {
        RegistryError(.stateDirectory, "cannot \(what): \(String(cString: strerror(errno)))", path: path)
    }
}
