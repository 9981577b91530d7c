import ArgumentParser
import HotKeyRegistry

struct Pin: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make a key hot, whatever its load.",
        discussion: "Replaces an earlier pin of the key and takes back a deny.")

    @OptionGroup var key: KeyArgument

    @Option(help: ArgumentHelp("Copies beside the original. (default: what the key's rule says)", valueName: "n"))
    var copies: Int?

    @Option(help: ArgumentHelp("How long it counts, as 10m or 1h30m. (default: for ever)", valueName: "time"))
    var ttl: TimeSpan?

    @OptionGroup var why: ReasonOption
    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func validate() throws {
        guard copies.map({ (0...RegistryLimits.copiesMax).contains($0) }) ?? true else {
            throw ValidationError("--copies: 0 to \(RegistryLimits.copiesMax).")
        }
    }

    func run() async throws {
        let name = try key.name()
        let (copies, ttl, reason) = (copies, ttl?.duration, why.reason)
        try global.print(
            try await global.withSession { session in
                KeyEditReport(
                    session, .pin, name,
                    try await session.registry.pin(name, copies: copies, ttl: ttl, reason: reason))
            })
    }
}
