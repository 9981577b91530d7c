public import HotKeyDetection
public import HotKeyRegistry

/// The registry's rules in the form that detection needs, made once for each version of the document. Agents and tools go by the same
/// one, so that what a tool explains is what an agent does.
public struct RuleBook: Sendable {
    public let document: RulesDocument
    public let detection: RuleSet

    /// The rules that hold while the registry has said nothing: those that `hkctl init` writes.
    public static let standard = try! RuleBook(RulesDocument())

    /// Throws ``RuleBookError`` naming the rule.
    public init(_ document: RulesDocument) throws {
        self.document = document
        do {
            detection = try RuleSet(document.rules.map(DetectionRule.init(registry:)))
        } catch {
            throw RuleBookError(message: "the registry's rules cannot be used: \(error)")
        }
    }

    /// Whether what nodes can carry has to be measured: for a threshold or for a number of copies.
    public var needsCapacities: Bool { detection.needsCapacities || document.rules.contains(where: \.copiesByHeat) }

    /// The rule that applies to a key: of those that match, the one with the most specific pattern. Nil when none matches.
    public func rule(for key: [UInt8]) -> Rule? {
        detection.match(key).map { document.rules[$0.position] }
    }
}

/// Rules that this version cannot use.
public struct RuleBookError: Error, Sendable, CustomStringConvertible {
    public var message: String
    public var description: String { message }
}

extension DetectionRule {
    init(registry rule: Rule) throws {
        self.init(
            pattern: try GlobPattern(rule.pattern), thresholdPerSecond: rule.thresholdPerSecond,
            thresholdBytesPerSecond: rule.thresholdBytesPerSecond, windowMilliseconds: rule.windowMilliseconds,
            confirmationSlices: rule.confirmSlices, confirmationOfSlices: rule.confirmOfSlices,
            instantMultiple: rule.instantMultiple, leaveRatio: rule.leaveRatio, coolDownSeconds: rule.coolDownSeconds,
            minimumHotSeconds: rule.minimumHotSeconds, reentrySeconds: rule.reentrySeconds,
            writeHotRatio: rule.writeHotRatio, missingHotRatio: rule.missingHotRatio,
            thresholdShareOfNode: rule.thresholdShareOfNode, thresholdFloorPerSecond: rule.thresholdFloorPerSecond)
    }
}
