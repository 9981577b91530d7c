import ArgumentParser
import HotKeyRegistry

struct Unpin: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Take back a pin.")

    @OptionGroup var key: KeyArgument
    @OptionGroup var why: ReasonOption
    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        let name = try key.name()
        let reason = why.reason
        try global.print(
            try await global.withSession { session in
                KeyEditReport(session, .unpin, name, try await session.registry.unpin(name, reason: reason))
            })
    }
}
