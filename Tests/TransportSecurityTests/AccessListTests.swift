import HotKeyTestSupport
import Testing

@testable import TransportSecurity

@Suite struct AccessListTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory(prefix: "hotkey-access") }

    private func hexadecimal(_ digest: SHA256Digest) -> String {
        digest.bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }

    private func list(passwords: String? = nil, users: String? = nil) throws -> ReloadedFiles<AccessList> {
        try AccessList.reloaded(
            passwordFile: passwords.map { try directory.writeSecret($0, to: "passwords") },
            usersFile: users.map { try directory.writeSecret($0, to: "users") }, names: ("passwordFile", "usersFile"))
    }

    private func accepts(_ list: AccessList, _ user: String, _ password: String) -> Bool {
        list.accepts(user: Array(user.utf8), password: Array(password.utf8))
    }

    private func refusal(_ body: () throws -> Void) throws -> String {
        try #require(throws: TransportSecurityError.self) { try body() }.message
    }

    /// FIPS 180-4's examples, and lengths around the ends of a block.
    @Test(arguments: [
        ("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        (
            "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"
        ),
        ("a", 55, "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318"),
        ("a", 56, "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a"),
        ("a", 64, "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb"),
        ("a", 1_000, "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3"),
    ])
    func digestsAreThoseOfTheStandard(text: String, count: Int, expected: String) {
        let digest = SHA256Digest(of: Array(String(repeating: text, count: count).utf8))
        #expect(hexadecimal(digest) == expected)
        #expect(SHA256Digest(hexadecimal: Array(expected.uppercased().utf8)) == digest)
    }

    @Test func usersHaveTheirOwnPasswordsAndMayHaveSeveral() throws {
        let hash = hexadecimal(SHA256Digest(of: Array("third".utf8)))
        let list = try list(
            passwords: "first\n\nsecond \r\n", users: "# who reads\nann:a:b c\nann:#\(hash)\nbob:#no digest\n"
        ).current
        #expect(list.userCount == 3)
        #expect(accepts(list, "default", "first") && accepts(list, "default", "second "))
        #expect(accepts(list, "ann", "a:b c") && accepts(list, "ann", "third") && accepts(list, "bob", "#no digest"))
        for (user, password) in [
            ("default", "second"), ("default", ""), ("default", "a:b c"), ("ann", "first"), ("ann", "#\(hash)"),
            ("ann", hash), ("Ann", "third"), ("bob", "third"), ("eve", "first"), ("", ""),
            ("default", String(repeating: "p", count: 100_000)),
        ] { #expect(!accepts(list, user, password), "\(user) \(password.prefix(20))") }
        #expect(list.hasUser(Array("ann".utf8)) && !list.hasUser(Array("eve".utf8)))
        // Without a password file nobody is let in as the user default.
        #expect(!accepts(try self.list(users: "ann:x\n").current, "default", "x"))
    }

    @Test func whatIsWrongIsNamedByItsLineAndNeverShown() throws {
        for (users, line) in [
            ("ann:x\nhunter2\n", 2), ("an n:hunter2\n", 1), (":hunter2\n", 1), ("ann:\n", 1),
            ("ann:\(String(repeating: "hunter2", count: 100))\n", 1),
        ] {
            let message = try refusal { _ = try list(users: users) }
            #expect(
                message.hasPrefix("usersFile \(directory.file("users")):\(line): expected USER:PASSWORD"), "\(message)")
            #expect(!message.contains("hunter2"))
        }
        #expect(try refusal { _ = try list(passwords: "\n\n") }.hasSuffix("expected at least one line, found none"))
        #expect(
            try refusal { _ = try list(passwords: String(repeating: "x\n", count: 1001)) }.contains(
                "at most 1000 lines"))
        let long = String(repeating: "#", count: TransportLimits.secretFileBytesMax + 1)
        #expect(try refusal { _ = try list(passwords: long) }.contains("expected at most"))
        let open = try directory.write("hunter2\n", to: "open")
        let message = try refusal {
            _ = try AccessList.reloaded(passwordFile: open, usersFile: nil, names: ("passwordFile", ""))
        }
        #expect(
            message.contains("lets other users of this host read or change it: chmod") && !message.contains("hunter2"))
        #expect("\(SecretBytes(Array("hunter2".utf8)))" == "(set)")
        var dumped = ""
        dump(try list(passwords: "hunter2\n").current, to: &dumped)
        dump(Login(user: "u", password: SecretBytes(Array("hunter2".utf8))), to: &dumped)
        #expect(!dumped.contains("hunter2") && !dumped.contains("104"))
    }

    @Test func aChangedFileHoldsOnceItIsGoodAndIsReportedOnce() throws {
        let files = try list(passwords: "old\n")
        #expect(files.refresh() == .unchanged && files.problem == nil)
        try directory.writeSecret("new\n", to: "passwords")
        #expect(files.refresh() == .renewed)
        #expect(accepts(files.current, "default", "new") && !accepts(files.current, "default", "old"))
        try directory.writeSecret("\n", to: "passwords")
        guard case .refused(let problem) = files.refresh() else {
            Issue.record("an empty file was taken")
            return
        }
        #expect(files.problem == problem && files.refresh() == .unchanged)
        #expect(accepts(files.current, "default", "new"), "what was in use stays")
        try directory.writeSecret("newer\n", to: "passwords")
        #expect(files.refresh() == .renewed && files.problem == nil)
        #expect(accepts(files.current, "default", "newer"))
    }

    @Test func nodesHaveOneLoginOrTheirOwn() throws {
        func logins(_ text: String) throws -> NodeLogins {
            try NodeLogins.reloaded(try directory.writeSecret(text, to: "nodes"), name: "credentialsFile").current
        }
        let both = try logins("# agents\napp:p w:x\nnode b default:other\n")
        #expect(both.login(node: "a") == Login(user: "app", password: SecretBytes(Array("p w:x".utf8))))
        #expect(both.login(node: "b") == Login(user: "default", password: SecretBytes(Array("other".utf8))))
        #expect(try logins("node b u:p\n").login(node: "a") == nil)
        for wrong in [
            "a:hunter2\nb:hunter2\n", "node b u:hunter2\nnode b u:hunter2\n", "node b hunter2\n", "hunter2\n",
        ] {
            let message = try refusal { _ = try logins(wrong) }
            #expect(message.hasPrefix("credentialsFile ") && !message.contains("hunter2"), "\(message)")
        }
    }

    @Test func aSharedPasswordIsAcceptedWholeAndPresentedByItsFirstLine() throws {
        let digest = "#" + String(repeating: "0", count: 64)
        let path = try directory.writeSecret("\(digest)\nsecond\n", to: "shared")
        let shared = try SharedPassword.reloaded(path, name: "passwordFile").current
        #expect(shared.presented.revealed == Array(digest.utf8))
        #expect(accepts(shared.accepted, "default", digest) && accepts(shared.accepted, "default", "second"))
    }
}
