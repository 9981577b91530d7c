public import ArgumentParser
public import HotKeyRegistry
public import HotKeySimulation
import StrictCoding

/// Cache nodes as `init` takes them: `NAME=HOST:PORT[:WEIGHT],…`.
enum NodeList {
    static func parse(_ text: String) throws -> [TopologyDocument.Node] {
        try text.split(separator: ",", omittingEmptySubsequences: false).map { text in
            guard let node = TopologyDocument.Node(argument: text) else {
                throw ValidationError("--nodes: '\(text)' is not NAME=HOST:PORT or NAME=HOST:PORT:WEIGHT.")
            }
            return node
        }
    }

    /// Refuses what a topology may not be, in the words of the command line.
    static func validate(_ document: TopologyDocument) throws {
        do {
            for node in document.nodes {
                do {
                    try node.validate()
                } catch let problem as FieldProblem {
                    throw ValidationError("--nodes: '\(node.name)': \(problem).")
                }
            }
            try document.validate()
        } catch let problem as FieldProblem {
            throw ValidationError("\(problem.path == ["hashTag"] ? "--hash-tag" : "--nodes"): \(problem).")
        }
    }
}

extension TopologyDocument.Hash: ExpressibleByArgument {}
extension TopologyDocument.Distribution: ExpressibleByArgument {}
extension ControlDocument.Mode: ExpressibleByArgument {}
extension TraceFormat: ExpressibleByArgument {}
