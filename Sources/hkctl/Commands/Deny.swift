import ArgumentParser
import HotKeyRegistry

struct Deny: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Keep a key from being treated as hot.",
        discussion: "Replaces an earlier deny of the key and takes back a pin.")

    @OptionGroup var key: KeyArgument

    @Option(help: ArgumentHelp("How long it counts, as 10m or 1h30m. (default: for ever)", valueName: "time"))
    var ttl: TimeSpan?

    @OptionGroup var why: ReasonOption
    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        let name = try key.name()
        let (ttl, reason) = (ttl?.duration, why.reason)
        try global.print(
            try await global.withSession { session in
                KeyEditReport(session, .deny, name, try await session.registry.deny(name, ttl: ttl, reason: reason))
            })
    }
}
