import ArgumentParser
import HotKeyRegistry

struct SetMode: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "mode", abstract: "Show or set what the whole fleet does.",
        discussion: """
            off       every agent is a plain proxy
            observe   hot keys are found and shown, nothing is done about them
            mitigate  hot keys are found and the rules' actions are taken

            Agents follow within a second; the coordinator is not needed for it.
            """)

    @Argument(help: "The mode to set; left out, the mode is shown.")
    var mode: ControlDocument.Mode?

    @OptionGroup var why: ReasonOption
    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func validate() throws {
        if mode == nil, why.reason != nil {
            throw ValidationError("--reason belongs to a change: name the mode to set.")
        }
    }

    func run() async throws {
        let reason = why.reason
        guard let mode else {
            return try global.print(
                try await global.withSession { session in
                    let stored = try await session.registry.control()
                    return ModeReport(
                        app: session.app, mode: stored.document.mode, detection: stored.document.detection,
                        stalenessCapMilliseconds: stored.document.stalenessCapMilliseconds, version: stored.version)
                })
        }
        try global.print(
            try await global.withSession { session in
                DocumentEditReport(
                    session, "mode", "mode \(mode.rawValue)", try await session.registry.setMode(mode, reason: reason))
            })
    }
}

struct ModeReport: Report {
    var app: String
    var mode: ControlDocument.Mode
    var detection: ControlDocument.Detection
    var stalenessCapMilliseconds: Int
    var version: Int32

    func text(_ terminal: Terminal) -> String { "\(mode.rawValue)\n" }
}
