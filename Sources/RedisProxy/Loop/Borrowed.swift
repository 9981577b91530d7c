/// A reference that is used without being counted: counting is a locked instruction each way, and on the way of a request through the
/// proxy that was a tenth of all it costs.
///
/// Nothing here keeps the object alive, so each place that holds one says who does, and until when. All of them are on one event
/// loop, so nobody else lets go of the object meanwhile.
struct Borrowed<Object: AnyObject> {
    // Unsafe: valid as long as the holder's proof holds.
    private let reference: Unmanaged<Object>

    init(_ object: Object) { reference = Unmanaged.passUnretained(object) }

    /// Uses the object, which must not be let go of by all who keep it before `body` has returned.
    @inline(__always)
    func with<Result>(_ body: (Object) -> Result) -> Result { reference._withUnsafeGuaranteedRef(body) }

    /// A reference that is counted, and with that safe from here on.
    var object: Object { reference.takeUnretainedValue() }
}
