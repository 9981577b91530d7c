import Foundation

extension ZooKeeperServer {
    /// Fills the disk as far as the running server is concerned: none of its files can grow beyond `fileBytesMax` any more, and
    /// it is told so as by a full disk (an error of the write). The next start is without the limit.
    public func fillDisk(fileBytesMax: Int) async throws {
        guard let processIdentifier, isRunning else { throw TestSupportError(.misuse, "the server is not running") }
        let outcome = try await SpawnedProcess.run(
            try SystemTool.prlimit(), ["--pid", "\(processIdentifier)", "--fsize=\(fileBytesMax):unlimited"])
        guard outcome.termination.isSuccess else { throw TestSupportError(.process, "prlimit: \(outcome)") }
    }

    /// Copies everything that the stopped server keeps on its disk: a backup.
    public func copyData() throws -> TemporaryDirectory {
        try checkStopped()
        let copy = try TemporaryDirectory(prefix: "hotkey-zk-copy")
        try FileManager.default.copyItem(atPath: dataDirectory, toPath: copy.file("data"))
        return copy
    }

    /// Puts a copy in the place of what the stopped server keeps on its disk.
    public func putBack(_ copy: TemporaryDirectory) throws {
        try checkStopped()
        try FileManager.default.removeItem(atPath: dataDirectory)
        try FileManager.default.copyItem(atPath: copy.file("data"), toPath: dataDirectory)
    }

    private func checkStopped() throws {
        if isRunning { throw TestSupportError(.misuse, "the server is running") }
    }

    /// Has ZooKeeper's own command line run commands, one a line: `set /path data`, `deleteall /path`, … Returns what it
    /// printed. It goes on after a command that fails.
    @discardableResult
    public func shell(_ commands: [String]) async throws -> String {
        let input = commands.map { "\($0)\n" }.joined() + "quit\n"
        let outcome = try await SpawnedProcess.run(
            try SystemTool.java(),
            [
                "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData",
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
                "-cp", try Self.classPath(), "org.apache.zookeeper.ZooKeeperMain", "-server", address,
            ], standardInput: Array(input.utf8))
        guard outcome.termination.isSuccess else { throw TestSupportError(.process, "zkCli: \(outcome)") }
        return outcome.standardOutput + outcome.standardError
    }
}
