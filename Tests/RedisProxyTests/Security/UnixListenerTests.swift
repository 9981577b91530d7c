import Foundation
import Glibc
import HotKeyTestSupport
import RedisProxy
import Testing

extension ProxyTests.Security {
    /// The file of a Unix socket.
    @Suite struct UnixListeners {
        private func mode(_ path: String) -> UInt32? {
            var status = stat()
            return lstat(path, &status) == 0 ? status.st_mode & 0o7777 : nil
        }

        /// A group that this process may give a file to.
        private var ownGroup: String { String(cString: getgrgid(getegid()).pointee.gr_name) }

        private func listen(_ rig: Rig, _ path: String, mode: UInt32 = 0o660, group: String? = nil) async throws {
            var security = ListenerSecurity()
            security.socketMode = mode
            security.socketGroup = group
            _ = try await rig.server.listen(on: .unixSocket(path: path), role: .app, security: security)
        }

        private func refusal(_ rig: Rig, _ path: String, group: String? = nil) async -> String {
            do {
                try await listen(rig, path, group: group)
                return "it listens"
            } catch { return "\(error)" }
        }

        @Test(arguments: [0o600, 0o660, 0o666, 0o777] as [UInt32])
        func theFileHasThePermissionsAskedForAndGoesInTheEnd(wanted: UInt32) async throws {
            let directory = try TemporaryDirectory(prefix: "hk")
            let path = directory.file("s")
            try await Rig.with { rig in
                try await listen(rig, path, mode: wanted, group: ownGroup)
                #expect(mode(path) == wanted)
                let client = try await RedisTestClient.connect(unixPath: path)
                #expect(try await client.line("SET unix v") == .ok)
                await client.close()
            }
            #expect(mode(path) == nil)
        }

        @Test func whatAKilledProcessLeftIsReplacedAndWhatLivesIsNot() async throws {
            let directory = try TemporaryDirectory(prefix: "hk")
            let path = directory.file("s")
            // A socket whose owner is gone.
            let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
            var address = sockaddr_un()
            address.sun_family = sa_family_t(AF_UNIX)
            withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
            let bound = withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
                }
            }
            #expect(bound == 0)
            close(descriptor)
            try await Rig.with { rig in
                try await listen(rig, path)
                try await Rig.with { other in
                    #expect(await refusal(other, path).contains("another process is listening there"))
                    #expect(
                        await refusal(other, directory.file("t"), group: "no-such-group").contains(
                            "no group no-such-group"))
                    #expect(mode(directory.file("t")) == nil)
                    let file = try directory.write("precious", to: "file")
                    #expect(await refusal(other, file).contains("something else than a socket"))
                    #expect(try String(contentsOfFile: file, encoding: .utf8) == "precious")
                    #expect(await refusal(other, directory.file("none/s")).contains("its directory"))
                }
                // The first one is there as it was.
                let client = try await RedisTestClient.connect(unixPath: path)
                #expect(try await client.line("PING") == .simple("PONG"))
                await client.close()
            }
        }

        @Test func ofSeveralThatStartAtOnceOneListens() async throws {
            let directory = try TemporaryDirectory(prefix: "hk")
            let path = directory.file("s")
            try await Rig.with(loops: 1) { rig in
                let listening = await withTaskGroup(of: Bool.self) { group in
                    for _ in 0..<16 { group.addTask { await refusal(rig, path) == "it listens" } }
                    return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
                }
                #expect(listening == 1)
            }
        }

        /// A socket that another process has put in its place is not this one's to remove.
        @Test func aSuccessorsSocketStays() async throws {
            let directory = try TemporaryDirectory(prefix: "hk")
            let path = directory.file("s")
            try await Rig.with { successor in
                try await Rig.with { rig in
                    try await listen(rig, path)
                    #expect(rename(path, directory.file("old")) == 0)
                    try await listen(successor, path)
                }
                let client = try await RedisTestClient.connect(unixPath: path)
                #expect(try await client.line("PING") == .simple("PONG"))
                await client.close()
            }
        }
    }
}
