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
    private var jobsUnderWay = 0
    private let jobs: AsyncStream<CopyLifecycle.Job>
    private let queue: AsyncStream<CopyLifecycle.Job>.Continuation

    init(proxy: ProxyServer, published: HotRecords, logger: Logger) {
        self.proxy = proxy
        self.logger = logger
        plan = CopyPlan(published: published, now: NIODeadline.now().uptimeNanoseconds)
        (jobs, queue) = AsyncStream.makeStream()
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
        let places = try await proxy.manageCopies()
        let situation = CopyPlan.Situation(
            registry: registry, rules: rules, placeCount: places.nodes, placeChanges: places.changes, clock: clock,
            now: NIODeadline.now().uptimeNanoseconds)
        let question = plan.heatQuestion(updates, situation)
        let heats = question.isEmpty ? [:] : await merger.copyHeat(of: question)
        let result = plan.turn(updates, heats: heats, situation)
        for job in plan.due(now: situation.now, jobsMax: AgentLimits.copyJobsMax - jobsUnderWay) {
            jobsUnderWay += 1
            queue.yield(job)
        }
        return result
    }

    /// Does what is due, until cancelled.
    func run() async throws {
        try await withThrowingDiscardingTaskGroup { group in
            for await job in jobs {
                group.addTask {
                    let succeeded = await self.perform(job)
                    await self.finished(job, succeeded)
                }
            }
        }
        try Task.checkCancellation()
    }

    private nonisolated func perform(_ job: CopyLifecycle.Job) async -> Bool {
        do {
            switch job.work {
            case .fill: return try await proxy.fillCopies(of: job.key)
            case .remove(let numbers): return try await proxy.removeCopies(numbers, of: job.key)
            }
        } catch {
            logger.debug(
                "copies could not be filled or deleted",
                metadata: ["key": "\(KeyName(job.key))", "error": "\(error)"])
            return false
        }
    }

    private func finished(_ job: CopyLifecycle.Job, _ succeeded: Bool) {
        jobsUnderWay -= 1
        plan.done(job, succeeded: succeeded, now: NIODeadline.now().uptimeNanoseconds)
    }
}
