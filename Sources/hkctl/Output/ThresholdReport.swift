import HotKeyPeer
import HotKeyRegistry

/// From how many accesses a second on one key is hot, where its rule lets that depend on the node that owns it: the coordinator's word.
struct ThresholdReport: Encodable, Sendable {
    var accessesPerSecond: Int?
    /// `rule`, `share` or `floor`.
    var from: String?
    var home: String?
    /// Nil while it is not known.
    var homeCapacityPerSecond: Double?
    /// Why nothing of this is known.
    var problem: String?
    /// In words.
    let text: String

    init(_ rule: Rule, _ answer: Result<LiveKey?, Failure>) {
        let key: LiveKey
        switch answer {
        case .success(let live?) where live.thresholdFrom != nil: key = live
        case .success:
            problem = "the agent that coordinates is too old to say"
            text = "not known: the agent that coordinates is too old to say"
            return
        case .failure(let failure):
            problem = failure.lines[0]
            text = "not known: \(failure.lines[0])"
            return
        }
        accessesPerSecond = key.thresholdPerSecond
        from = key.thresholdFrom
        home = key.home
        homeCapacityPerSecond = key.homeCapacityPerSecond
        let rate = "\(key.thresholdPerSecond ?? rule.thresholdPerSecond) accesses/s"
        let node = key.home.map { "node \($0)" } ?? "its node"
        guard let capacity = key.homeCapacityPerSecond else {
            text = "\(rate), the rule's own: what \(node) can carry is not known, it was not busy enough to be measured"
            return
        }
        let share =
            "\(TopReport.percent(rule.thresholdShareOfNode)) of the \(NumberText.rate(capacity))/s that \(node) can carry, as measured"
        switch key.thresholdFrom {
        case "share": text = "\(rate), \(share)"
        case "floor": text = "\(rate), the floor: \(share), is less"
        default: text = "\(rate), the rule's own: \(share), is no less"
        }
    }
}
