public import ArgumentParser
public import HotKeyRegistry

/// Cache nodes as `init` takes them: `NAME=HOST:PORT[:WEIGHT],…`.
enum NodeList {
    static func parse(_ text: String) throws -> [TopologyDocument.Node] {
        try text.split(separator: ",", omittingEmptySubsequences: false).map(node)
    }

    private static func node(_ text: Substring) throws -> TopologyDocument.Node {
        let problem = ValidationError("--nodes: '\(text)' is not NAME=HOST:PORT or NAME=HOST:PORT:WEIGHT.")
        guard let equals = text.firstIndex(of: "=") else { throw problem }
        let name = String(text[..<equals])
        let place = text[text.index(after: equals)...]
        // An IPv6 address has colons of its own and stands in brackets.
        let hostEnd =
            place.first == "[" ? place.firstIndex(of: "]").map(place.index(after:)) : place.firstIndex(of: ":")
        guard let hostEnd, !name.isEmpty else { throw problem }
        let numbers = place[hostEnd...].split(separator: ":", omittingEmptySubsequences: false).dropFirst()
        guard (1...2).contains(numbers.count), let port = numbers.first else { throw problem }
        var weight = 1
        if numbers.count == 2 {
            guard let given = numbers.last.flatMap({ Int($0) }) else { throw problem }
            weight = given
        }
        return TopologyDocument.Node(name: name, address: "\(place[..<hostEnd]):\(port)", weight: weight)
    }
}

extension TopologyDocument.Hash: ExpressibleByArgument {}
extension TopologyDocument.Distribution: ExpressibleByArgument {}
extension ControlDocument.Mode: ExpressibleByArgument {}
