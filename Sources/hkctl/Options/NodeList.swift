public import ArgumentParser
public import HotKeyRegistry

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
}

extension TopologyDocument.Hash: ExpressibleByArgument {}
extension TopologyDocument.Distribution: ExpressibleByArgument {}
extension ControlDocument.Mode: ExpressibleByArgument {}
