/// When everything is read again although no watch has fired.
enum Reread {
    /// - Parameter random: evenly from 0 up to 1.
    static func period(random: Double, milliseconds: Int = RegistryLimits.rereadMilliseconds) -> Duration {
        let share = 1 + RegistryLimits.rereadJitter * (2 * random - 1)
        return .microseconds(Int64(Double(milliseconds) * share * 1_000))
    }
}
