/// Cache nodes as command lines take them: `NAME=HOST:PORT[:WEIGHT]`.
extension TopologyDocument.Node {
    /// Nil for text of another form. Whether name, address and weight can be used is told by ``validate()``.
    public init?(argument text: some StringProtocol) {
        guard let equals = text.firstIndex(of: "="), equals > text.startIndex else { return nil }
        let place = text[text.index(after: equals)...]
        // An IPv6 address has colons of its own and stands in brackets.
        let hostEnd =
            place.first == "[" ? place.firstIndex(of: "]").map(place.index(after:)) : place.firstIndex(of: ":")
        guard let hostEnd else { return nil }
        let numbers = place[hostEnd...].split(separator: ":", omittingEmptySubsequences: false).dropFirst()
        guard (1...2).contains(numbers.count), let port = numbers.first else { return nil }
        var weight = 1
        if numbers.count == 2 {
            guard let given = numbers.last.flatMap({ Int($0) }) else { return nil }
            weight = given
        }
        self.init(name: String(text[..<equals]), address: "\(place[..<hostEnd]):\(port)", weight: weight)
    }

    public var argument: String { "\(name)=\(address)" + (weight == 1 ? "" : ":\(weight)") }
}

extension TopologyDocument {
    /// As ``validate()``, the nodes included.
    public func validateWhole() throws {
        for node in nodes { try node.validate() }
        try validate()
    }
}
