import HotKeyDetection
import HotKeyRegistry

/// The registry's rules in the forms that detection and mitigation need, made once for each version of the document.
struct RuleBook: Sendable {
    let document: RulesDocument
    let detection: RuleSet

    /// The rules that hold while the registry has said nothing: those that `hkctl init` writes.
    static let standard = try! RuleBook(RulesDocument())

    /// Throws ``AgentError/Code/unusableRules`` naming the rule.
    init(_ document: RulesDocument) throws {
        self.document = document
        do {
            detection = try RuleSet(document.rules.map(DetectionRule.init(registry:)))
        } catch {
            throw AgentError(.unusableRules, "the registry's rules cannot be used: \(error)")
        }
    }

    /// The rule that applies to a key.
    func rule(for key: [UInt8]) -> Rule? {
        detection.match(key).map { document.rules[$0.position] }
    }
}

extension DetectionRule {
    init(registry rule: Rule) throws {
        self.init(
            pattern: try GlobPattern(rule.pattern), thresholdPerSecond: rule.thresholdPerSecond,
            thresholdBytesPerSecond: rule.thresholdBytesPerSecond, windowMilliseconds: rule.windowMilliseconds,
            confirmationSlices: rule.confirmSlices, confirmationOfSlices: rule.confirmOfSlices,
            instantMultiple: rule.instantMultiple, leaveRatio: rule.leaveRatio, coolDownSeconds: rule.coolDownSeconds,
            minimumHotSeconds: rule.minimumHotSeconds, reentrySeconds: rule.reentrySeconds,
            writeHotRatio: rule.writeHotRatio)
    }
}
