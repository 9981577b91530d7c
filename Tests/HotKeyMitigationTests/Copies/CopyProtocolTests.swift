import Testing

@Suite struct CopyProtocolTests {
    @Test(
        "in no order of events is an overwritten value read after the write's acknowledgement, nor past the cap, nor brought back",
        arguments: CopyProtocolModel.ClockRead.allCases, CopyProtocolModel.Scope.allCases)
    func holds(_ clock: CopyProtocolModel.ClockRead, _ scope: CopyProtocolModel.Scope) {
        var model = CopyProtocolModel(flaw: .none, clock: clock, scope: scope)
        model.explore()
        #expect(model.violations == [])
        // The search must get to where the promises could break.
        #expect(model.states > 10_000)
        #expect(model.copyReads > 500)
    }

    @Test(
        "each part of the protocol is needed: without it the search finds the broken promise",
        arguments: [
            (CopyProtocolModel.Flaw.absoluteTombstone, CopyProtocolModel.Violation.broughtBack),
            (.relativeFill, .olderThanTheCap),
            (.fillWithoutNX, .broughtBack),
            (.tombstoneTooShort, .broughtBack),
            (.noFenceAfterWrites, .ownWriteNotSeen),
            (.noFence, .ownWriteNotSeen),
        ])
    func everyPartIsNeeded(_ flaw: CopyProtocolModel.Flaw, _ expected: CopyProtocolModel.Violation) {
        var model = CopyProtocolModel(flaw: flaw, clock: .late, scope: flaw == .noFence ? .beginning : .fenced)
        model.explore(until: expected)
        #expect(model.violations.contains(expected), "\(flaw): \(model.violations)")
    }
}
