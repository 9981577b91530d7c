/// When everything is read again although no watch has fired.
enum Reread {
    /// - Parameter random: evenly from 0 up to 1.
    static func period(random: Double, milliseconds: Int = RegistryLimits.rereadMilliseconds) -> Duration {
        let share = 1 + RegistryLimits.rereadJitter * (2 * random - 1)
        return .microseconds(Int64(Double(milliseconds) * share * 1_000))
    }

    /// How long an agent waits before it reads `reads` nodes that the whole fleet has been told of at once; nil for not at
    /// all.
    /// - Parameter random: evenly from 0 up to 1.
    static func spread(agents: Int, reads: Int, random: Double) -> Duration? {
        let microseconds = min(
            agents * reads * RegistryLimits.spreadMicrosecondsPerRead, RegistryLimits.spreadMillisecondsMax * 1_000)
        guard microseconds >= RegistryLimits.spreadMillisecondsMin * 1_000 else { return nil }
        return .microseconds(Int64(Double(microseconds) * random))
    }
}
