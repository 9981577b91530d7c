import Foundation

/// Programs of the system that tests run. One that is missing fails the test with the line that installs it: a skipped
/// test would say "passed" about something nobody looked at.
public enum SystemTool {
    /// The path of a program. Looks in `PATH`, then in the directories where Debian puts servers.
    ///
    /// Throws `missingProgram`, naming the Debian package.
    public static func path(_ name: String, debianPackage: String) throws -> String {
        let searched = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":").map(String.init)
        for directory in searched + ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"] {
            let candidate = "\(directory)/\(name)"
            if FileManager.default.isExecutableFile(atPath: candidate) { return candidate }
        }
        throw missing(name, debianPackage: debianPackage)
    }

    public static func java() throws -> String { try path("java", debianPackage: "default-jre-headless") }
    public static func redisServer() throws -> String { try path("redis-server", debianPackage: "redis-server") }
    public static func redisCLI() throws -> String { try path("redis-cli", debianPackage: "redis-tools") }
    public static func redisBenchmark() throws -> String { try path("redis-benchmark", debianPackage: "redis-tools") }
    public static func openSSL() throws -> String { try path("openssl", debianPackage: "openssl") }
    public static func nutcracker() throws -> String { try path("nutcracker", debianPackage: "nutcracker") }
    static func prlimit() throws -> String { try path("prlimit", debianPackage: "util-linux") }
    static func setpriv() throws -> String { try path("setpriv", debianPackage: "util-linux") }

    /// Debian's own Python, the one that sees Debian's `python3-kazoo` and `python3-redis`.
    public static func python() throws -> String {
        let path = "/usr/bin/python3"
        guard FileManager.default.isExecutableFile(atPath: path) else {
            throw missing(path, debianPackage: "python3 python3-kazoo python3-redis")
        }
        return path
    }

    static func missing(_ what: String, debianPackage: String) -> TestSupportError {
        TestSupportError(
            .missingProgram,
            "\(what) is not installed. Run: sudo apt-get install -y --no-install-recommends \(debianPackage)")
    }
}
