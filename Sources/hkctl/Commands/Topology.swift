import ArgumentParser
import HotKeyRegistry

struct Topology: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show or apply the topology: the cache nodes and how keys are placed on them.",
        subcommands: [TopologyShow.self, TopologyApply.self])

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        throw ValidationError("Say what to do: topology show or topology apply FILE.")
    }
}

struct TopologyShow: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "show", abstract: "The topology in force; with --output json in the form that 'apply' takes.")

    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        try global.print(
            try await global.withSession { session in
                TopologyReport(document: try await session.registry.topology().document)
            })
    }
}

struct TopologyApply: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "apply", abstract: "Replace the topology by the one in a file.",
        discussion: """
            Every agent switches when it has read it: a changed placement moves keys to other nodes, which do not hold \
            their values yet.
            """)

    @OptionGroup var document: DocumentFile
    @OptionGroup var why: ReasonOption
    @OptionGroup(title: "Common Options") var global: GlobalOptions

    func run() async throws {
        let report = try await apply()
        try global.print(report)
    }

    // In one function with `run`, and with the document itself instead of a reference to it, Swift 6.3.1 crashes when it
    // splits the coroutine in a release build.
    @inline(never)
    private func apply() async throws -> DocumentEditReport {
        let topology = try readDocument()
        let reason = why.reason
        return try await global.withSession { session in
            let summary = "a topology of \(NumberText.count(topology.value.nodes.count, "node"))"
            let outcome = try await session.registry.applyTopology(topology.value, reason: reason)
            return DocumentEditReport(session, "topology", summary, outcome)
        }
    }

    private final class Read: Sendable {
        let value: TopologyDocument
        init(_ value: TopologyDocument) { self.value = value }
    }

    @inline(never)
    private func readDocument() throws -> Read {
        Read(try explaining(global) { try document.read(TopologyDocument.self) })
    }
}

/// The document itself, so that what is shown can be edited and applied.
struct TopologyReport: Report {
    var document: TopologyDocument

    func encode(to encoder: any Encoder) throws { try document.encode(to: encoder) }

    func text(_ terminal: Terminal) -> String {
        var table = Table(columns: [.text("NODE"), .text("ADDRESS"), .number("WEIGHT"), .text("ON THE RING")])
        for node in document.nodes {
            table.add(node.name, node.address, "\(node.weight)", node.ringName ?? "by its address")
        }
        return "\(document.summary)\n\n" + table.text(terminal)
    }
}

extension TopologyDocument {
    /// `ketama over 3 nodes, hash fnv1a_64, hash tag {}`
    var summary: String {
        let count = NumberText.count(nodes.count, "node")
        guard kind == .nodes else { return "a Redis Cluster, asked for its slots at \(count)" }
        let tag = hashTag.isEmpty ? "" : ", hash tag \(hashTag)"
        return "\(distribution.rawValue) over \(count), hash \(hash.rawValue)\(tag)"
    }
}
