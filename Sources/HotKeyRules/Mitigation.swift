public import HotKeyDetection
public import HotKeyMitigation
public import HotKeyRegistry

/// What a rule and a key's kind come to, in the form that the mitigation needs. Agents act by it, tools tell what agents do by it.
extension HotKeyPolicy {
    /// - Parameters:
    ///   - copies: an operator's or a source's wish; nil for the rule's.
    ///   - copyState: what the coordinator says of the copies; nil where nobody manages them, and whoever finds one empty fills it.
    ///   - fleetCapMilliseconds: of the `control` document; the rule's own cap holds where it is lower.
    public init(
        key: [UInt8], rule: Rule, kind: HotKind, copies: Int? = nil, copyState: CopyState? = nil,
        fleetCapMilliseconds: Int
    ) {
        var capNanoseconds = UInt64(min(rule.stalenessCapMilliseconds, fleetCapMilliseconds)) * 1_000_000
        // Whoever finds nothing makes what is missing: that it is there now should be seen soon, and asking anew a few times a
        // second costs the home next to nothing.
        if kind == .missing {
            capNanoseconds = min(capNanoseconds, HotKeyMitigationLimits.missingLifetimeNanosecondsMax)
        }
        let wantedCopies = min(copies ?? rule.copies, HotKeyMitigationLimits.copiesMax)
        var mitigation = MitigationKind(rule.action, kind)
        if wantedCopies == 0 { mitigation = mitigation.withoutCopies }
        let lifetimes = HotKeyPolicy.split(capNanoseconds: capNanoseconds, kind: mitigation)
        self.init(
            key: key, kind: mitigation, copies: mitigation.usesCopies ? wantedCopies : 0,
            readsCopies: copyState.map { $0 == .ready } ?? true,
            readsReplicas: mitigation.usesCopies && rule.replicaReads,
            localLifetimeNanoseconds: lifetimes.localLifetimeNanoseconds,
            copyLifetimeNanoseconds: lifetimes.copyLifetimeNanoseconds,
            staleOnErrorNanoseconds: UInt64(rule.staleOnErrorCapSeconds * 1e9),
            missIntervalNanoseconds: UInt64(rule.missIntervalMilliseconds) * 1_000_000,
            // What most reads do not find is not there; nobody is on the way to make it.
            missHoldNanoseconds: kind == .missing ? 0 : UInt64(rule.missHoldMilliseconds) * 1_000_000)
    }
}

extension MitigationKind {
    /// Write-hot keys are shown, never cached nor copied; big ones are kept on the host only, because every copy would cost
    /// another node the bytes that make them hot. Of a key that is not there a copy would hold nothing: that it is missing is
    /// kept on the host.
    public init(_ action: Rule.Action, _ kind: HotKind) {
        switch (action, kind) {
        case (_, .write), (.observe, _): self = .none
        case (.cache, _), (.both, .big), (.copies, .big), (.both, .missing), (.copies, .missing): self = .cache
        case (.copies, .read): self = .copies
        case (.both, .read): self = .both
        }
    }

    public var withoutCopies: MitigationKind {
        switch self {
        case .both: .cache
        case .copies: .none
        case .cache, .none: self
        }
    }
}

extension Rule {
    /// How many reads a second one place (home or a copy) may have of one key, where the number of copies follows from it: a share of
    /// what the home can carry, the rule's own or a tenth; where that is not measured, what makes a key hot.
    public func readsPerPlace(homeAccessesPerSecond: Double?) -> Double {
        guard let homeAccessesPerSecond else { return Double(thresholdPerSecond) }
        let share = thresholdShareOfNode > 0 ? thresholdShareOfNode : HotKeyMitigationLimits.copyShareOfNode
        return max(Double(thresholdFloorPerSecond), share * homeAccessesPerSecond)
    }

    /// What is done with a key of that kind.
    public func action(for kind: HotKind) -> Action {
        let mitigation = MitigationKind(action, kind)
        return Action(copies == 0 ? mitigation.withoutCopies : mitigation)
    }
}

extension Rule.Action {
    /// What is done, where the rule's wish and the key's kind have been weighed.
    public init(_ kind: MitigationKind) {
        switch kind {
        case .none: self = .observe
        case .cache: self = .cache
        case .copies: self = .copies
        case .both: self = .both
        }
    }
}

extension HotKind {
    public init(_ kind: HeatKind) {
        switch kind {
        case .read: self = .read
        case .write: self = .write
        case .big: self = .big
        case .missing: self = .missing
        }
    }
}

extension HeatKind {
    public init(_ kind: HotKind) {
        switch kind {
        case .read: self = .read
        case .write: self = .write
        case .big: self = .big
        case .missing: self = .missing
        }
    }
}

extension Placement {
    /// Of a valid document of the kind `nodes`; a cluster places keys itself. The nodes stand in the document's order.
    public convenience init(registry document: TopologyDocument) throws {
        guard document.kind == .nodes, let hash = HotKeyMitigation.KeyHash(rawValue: document.hash.rawValue),
            let distribution = Distribution(rawValue: document.distribution.rawValue)
        else {
            throw RuleBookError(
                message: "the topology's hash '\(document.hash.rawValue)' or distribution "
                    + "'\(document.distribution.rawValue)' is not known to this version")
        }
        let nodes = try document.nodes.map { node in
            PlacementNode(ringName: try node.ringName ?? Self.ringName(of: node), weight: node.weight)
        }
        let tag = Array(document.hashTag.utf8)
        try self.init(
            nodes: nodes, hash: hash, distribution: distribution, hashTag: tag.count == 2 ? (tag[0], tag[1]) : nil)
    }

    private static func ringName(of node: TopologyDocument.Node) throws -> String {
        guard let colon = node.address.lastIndex(of: ":"),
            let port = Int(node.address[node.address.index(after: colon)...])
        else {
            throw RuleBookError(message: "topology node '\(node.name)': '\(node.address)' is not an address HOST:PORT")
        }
        var host = node.address[..<colon]
        if host.first == "[", host.last == "]" { host = host.dropFirst().dropLast() }
        return PlacementNode.defaultRingName(host: String(host), port: port)
    }
}
