import Foundation

/// Finds the programs that this package builds.
public enum BinaryLocator {
    /// The path of a built executable such as `hkagent`: the one that lies beside the running test bundle, so that a test
    /// never runs a stale binary of another build configuration. `HOTKEY_BIN_DIR` overrides the directory.
    public static func path(_ name: String) throws -> String {
        var directories: [String] = []
        if let override = ProcessInfo.processInfo.environment["HOTKEY_BIN_DIR"] {
            directories.append(override)
        } else {
            var directory = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()
            // The bundle may be a directory that holds the executable; three steps up reach the build directory.
            for _ in 0..<3 {
                directories.append(directory.path)
                directory.deleteLastPathComponent()
            }
        }
        for directory in directories {
            let candidate = "\(directory)/\(name)"
            var isDirectory: ObjCBool = false
            if FileManager.default.fileExists(atPath: candidate, isDirectory: &isDirectory), !isDirectory.boolValue,
                FileManager.default.isExecutableFile(atPath: candidate)
            {
                return candidate
            }
        }
        throw TestSupportError(
            .missingProgram,
            "\(name) is not built (looked in \(directories.joined(separator: ", "))). Run: swift build --product \(name)"
        )
    }
}
