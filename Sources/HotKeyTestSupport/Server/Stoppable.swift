/// What a test starts and has to stop.
public protocol Stoppable: Sendable {
    func stop() async
}

extension Stoppable {
    /// Runs `body` and stops this afterwards, also when `body` throws.
    public func use<R>(
        isolation: isolated (any Actor)? = #isolation, _ body: (Self) async throws -> R
    ) async throws -> R {
        do {
            let result = try await body(self)
            await stop()
            return result
        } catch {
            await stop()
            throw error
        }
    }
}
