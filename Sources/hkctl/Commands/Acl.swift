import ArgumentParser
import HotKeyRegistry

struct Acl: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show or set who may do what with the app's nodes in ZooKeeper.",
        discussion: """
            Three roles: an operator may do everything; an agent writes what agents, coordinators and detectors write, and \
            reads the rest; a reader reads. docs/security.md has the table.
            """,
        subcommands: [AclShow.self, AclApply.self, AclDigest.self])

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        throw ValidationError("Say what to do: acl show, acl apply FILE or acl digest.")
    }
}

struct AclShow: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "The roles in force; with --output json in the form that 'apply' takes.")

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        try global.print(
            try await global.withSession { session in
                guard let access = try await session.registry.access() else {
                    // An app that is not there has no roles either, and that is another mistake.
                    _ = try await session.registry.app()
                    throw Failure(
                        .failed, "\(session.app) has no roles: whoever reaches ZooKeeper may do everything.",
                        "'\(session.options.place.hkctl) acl apply FILE' sets them (docs/security.md).")
                }
                return AccessReport(access: access)
            })
    }
}

struct AccessReport: Report {
    var access: RegistryAccess

    func encode(to encoder: any Encoder) throws { try access.encode(to: encoder) }

    func text(_ terminal: Terminal) -> String {
        var table = Table(columns: [.text("ROLE"), .text("USER"), .freeText("MAY")])
        for role in RegistryAccess.Role.allCases {
            for identity in access.identities(of: role) { table.add(role.rawValue, identity.user, Self.meaning(role)) }
        }
        if access.anyoneMayRead { table.add(RegistryAccess.Role.reader.rawValue, "(anyone)", Self.meaning(.reader)) }
        return table.text(terminal)
    }

    private static func meaning(_ role: RegistryAccess.Role) -> String {
        switch role {
        case .operator: "everything"
        case .agent: "write hot/, sources/, leader/, agents/; read the rest"
        case .reader: "read everything but access"
        }
    }
}

struct AclApply: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply", abstract: "Give every node of the app its access control list, by the roles in a file.",
        discussion: """
            Agents need a user of the role agent before this: one that does not authenticate goes on with what it knows, but \
            can neither be seen nor lead. Interrupted, it is completed by running it again.
            """)

    @Argument(help: "The roles, in JSON or YAML; '-' reads standard input.")
    var file: String?

    @Flag(help: "Instead of a file: open every node to everyone.")
    var open = false

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func validate() throws {
        guard open == (file == nil) else { throw ValidationError("Give either a FILE or --open.") }
    }

    func run() async throws {
        let access = try explaining(global) { try file.map { try AccessFile.read($0, as: global.security.login()) } }
        try global.print(
            try await global.withSession { session in
                // So that an app that is not there is called so, and not given a document.
                _ = try await session.registry.app()
                let outcome = try await session.registry.applyAccess(access)
                return AccessEditReport(
                    app: session.app, isOpen: access == nil, changed: outcome.changed || !outcome.rewritten.isEmpty,
                    rewritten: outcome.rewritten)
            })
    }
}

struct AccessEditReport: Report {
    var app: String
    /// Whether everyone may do everything now.
    var isOpen: Bool
    var changed: Bool
    /// Nodes whose access control list was another one.
    var rewritten: [String]

    func text(_ terminal: Terminal) -> String {
        let what = isOpen ? "open to everyone" : "restricted by role"
        return changed
            ? "\(app) is \(what): set the access control of \(NumberText.count(rewritten.count, "node"))\n"
            : "\(app) is \(what) already: nothing changed\n"
    }
}

struct AclDigest: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "digest", abstract: "Print USER:HASH for a file of roles. Needs no ZooKeeper.",
        discussion: """
            Reads one line, USER:PASSWORD, from the file that --zookeeper-digest-file names, from HOTKEY_ZOOKEEPER_AUTH, or \
            else from standard input. The hash does not give the password away unless it can be guessed: use a long random one.
            """)

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        let identity = try explaining(global) {
            if let login = try global.security.login() { return login.identity }
            let line = try InputFile.bytes("-", name: "standard input", max: RegistryLimits.secretBytesMax)
            do {
                return try DigestLogin(line: line, source: "standard input").identity
            } catch let error as RegistryError {
                throw Failure(.failed, "\(error.message).")
            }
        }
        try global.print(DigestReport(identity: identity))
    }
}

struct DigestReport: Report {
    var identity: DigestIdentity

    func text(_ terminal: Terminal) -> String { "\(identity)\n" }
}
