import HotKeyMitigation
import HotKeyRegistry
import HotKeyRules
import Logging
import NIOCore
import RedisProxy

/// While this agent coordinates: brings copies to where they are published to be, and deletes them when nobody reads them any more.
///
/// The coordinator does this itself, over its own agent's connections, because only it can publish the next state and would otherwise
/// have to be told by another agent that it may. When it dies, the next one finds every state in the records and begins what was under
/// way anew: a fill that is done twice stores nothing the second time, and what is deleted twice is gone.
actor CopyKeeper {
    private let proxy: ProxyServer
    private let logger: Logger
    private var plan: CopyPlan
    private var tasksUnderWay = 0
    private let tasks: AsyncStream<CopyLifecycle.Task>
    private let queue: AsyncStream<CopyLifecycle.Task>.Continuation

    init(proxy: ProxyServer, published: HotRecords, logger: Logger) {
        self.proxy = proxy
        self.logger = logger
        plan = CopyPlan(published: published, now: NIODeadline.now().uptimeNanoseconds)
        (tasks, queue) = AsyncStream.makeStream()
    }

    var counts: [CopyLifecycle.State: Int] { plan.counts }

    func suspend() { plan.suspend() }

    /// What is to be published of what detection has decided, and of copies.
    func turn(
        _ updates: [HotUpdate], _ registry: RegistrySnapshot, _ rules: RuleBook, clock: Timestamp,
        _ merger: ReportMerger
    )
        async throws -> [HotUpdate]
    {
        let situation = CopyPlan.Situation(
            registry: registry, rules: rules, placeCount: try await placeCount(registry.topology), clock: clock,
            now: NIODeadline.now().uptimeNanoseconds)
        let question = plan.heatQuestion(updates, situation)
        let heats = question.isEmpty ? [:] : await merger.copyHeat(of: question)
        let result = plan.turn(updates, heats: heats, situation)
        for task in plan.due(now: situation.now, tasksMax: AgentLimits.copyTasksMax - tasksUnderWay) {
            tasksUnderWay += 1
            queue.yield(task)
        }
        return result
    }

    private func placeCount(_ topology: TopologyDocument?) async throws -> Int {
        guard let topology else { return 0 }
        // Copies in a Redis Cluster are not made.
        return topology.kind == .nodes ? topology.nodes.count : 1
    }

    /// Does what is due, until cancelled.
    func run() async throws {
        try await withThrowingDiscardingTaskGroup { group in
            for await task in tasks {
                group.addTask {
                    let succeeded = await self.perform(task)
                    await self.finished(task, succeeded)
                }
            }
        }
        try Task.checkCancellation()
    }

    private nonisolated func perform(_ task: CopyLifecycle.Task) async -> Bool {
        do {
            switch task.work {
            case .fill: return try await proxy.fillCopies(of: task.key)
            case .remove(let numbers): return try await proxy.removeCopies(numbers, of: task.key)
            }
        } catch {
            logger.debug(
                "copies could not be filled or deleted",
                metadata: ["key": "\(KeyName(task.key))", "error": "\(error)"])
            return false
        }
    }

    private func finished(_ task: CopyLifecycle.Task, _ succeeded: Bool) {
        tasksUnderWay -= 1
        plan.done(task, succeeded: succeeded, now: NIODeadline.now().uptimeNanoseconds)
    }
}
