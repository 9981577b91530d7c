internal import CZooKeeper

// What C calls. File-level and nonisolated: a closure literal would inherit the isolation of where it stands and trap
// on the library's thread (P16). Everything a callback is given dies when it returns (P23): copy, then go on. A
// value's length says nothing before rc was looked at: an unset value is (NULL, -1), an error is (NULL, 0).

/// The context is the +1 of `NativeSession.submit`, taken exactly once.
private nonisolated func take(_ data: UnsafeRawPointer?, _ reply: (PendingCall) -> CallReply) {
    guard let data else { return }
    let call = Unmanaged<PendingCall>.fromOpaque(data).takeRetainedValue()
    call.session.complete(call, reply(call))
}

nonisolated func voidCompletion(_ rc: Int32, _ data: UnsafeRawPointer?) {
    take(data) { _ in rc == ZOK.rawValue ? .done : .failure(rc) }
}

nonisolated func statCompletion(_ rc: Int32, _ stat: UnsafePointer<Stat>?, _ data: UnsafeRawPointer?) {
    take(data) { _ in
        guard rc == ZOK.rawValue else { return .failure(rc) }
        guard let stat else { return .failure(ZMARSHALLINGERROR.rawValue) }
        return .stat(NodeStat(stat.pointee))
    }
}

nonisolated func dataCompletion(
    _ rc: Int32, _ value: UnsafePointer<CChar>?, _ length: Int32, _ stat: UnsafePointer<Stat>?,
    _ data: UnsafeRawPointer?
) {
    take(data) { _ in
        guard rc == ZOK.rawValue else { return .failure(rc) }
        guard let stat else { return .failure(ZMARSHALLINGERROR.rawValue) }
        guard let value, length > 0 else { return .data([], NodeStat(stat.pointee)) }
        return .data(
            [UInt8](UnsafeRawBufferPointer(start: value, count: Int(length))), NodeStat(stat.pointee))
    }
}

nonisolated func childrenCompletion(
    _ rc: Int32, _ names: UnsafePointer<String_vector>?, _ stat: UnsafePointer<Stat>?, _ data: UnsafeRawPointer?
) {
    take(data) { _ in
        guard rc == ZOK.rawValue else { return .failure(rc) }
        guard let names, let stat else { return .failure(ZMARSHALLINGERROR.rawValue) }
        let list = UnsafeBufferPointer(start: names.pointee.data, count: Int(max(0, names.pointee.count)))
        return .names(list.compactMap { $0.map { String(cString: $0) } }, NodeStat(stat.pointee))
    }
}

nonisolated func pathCompletion(_ rc: Int32, _ path: UnsafePointer<CChar>?, _ data: UnsafeRawPointer?) {
    take(data) { _ in
        guard rc == ZOK.rawValue else { return .failure(rc) }
        return .path(path.map { String(cString: $0) } ?? "")
    }
}

nonisolated func accessControlCompletion(
    _ rc: Int32, _ list: UnsafeMutablePointer<ACL_vector>?, _ stat: UnsafeMutablePointer<Stat>?,
    _ data: UnsafeRawPointer?
) {
    take(data) { _ in
        guard rc == ZOK.rawValue else { return .failure(rc) }
        guard let list, let stat else { return .failure(ZMARSHALLINGERROR.rawValue) }
        let entries = UnsafeBufferPointer(start: list.pointee.data, count: Int(max(0, list.pointee.count)))
        return .accessControl(entries.map { AccessControl($0) }, NodeStat(stat.pointee))
    }
}

/// P33: runs on the IO thread or the closing thread, possibly inside the library's own lock. It resumes its call and
/// takes no lock that anyone holds while calling the library.
nonisolated func authenticationCompletion(_ rc: Int32, _ data: UnsafeRawPointer?) {
    guard let data else { return }
    let call = Unmanaged<PendingCall>.fromOpaque(data).takeRetainedValue()
    call.session.completeUnderLibraryLock(call, rc == ZOK.rawValue ? .done : .failure(rc))
}

/// The session of a handle. The pointer is the +1 that `NativeSession.open` gave and that `close` takes back after the
/// library's threads have ended, so that it is alive in every callback.
private nonisolated func session(of handle: OpaquePointer?) -> NativeSession? {
    guard let handle, let context = zoo_get_context(handle) else { return nil }
    return Unmanaged<NativeSession>.fromOpaque(context).takeUnretainedValue()
}

nonisolated func sessionWatcher(
    _ handle: OpaquePointer?, _ type: Int32, _ state: Int32, _ path: UnsafePointer<CChar>?,
    _ context: UnsafeMutableRawPointer?
) {
    guard type == ZOO_SESSION_EVENT, let handle else { return }
    session(of: handle)?.sessionEvent(handle, libraryState: state)
}

/// P12: the path of a session event is "", not NULL as the header says; nothing here looks at it.
nonisolated func nodeWatcher(
    _ handle: OpaquePointer?, _ type: Int32, _ state: Int32, _ path: UnsafePointer<CChar>?,
    _ context: UnsafeMutableRawPointer?
) {
    guard let context else { return }
    session(of: handle)?.watchFired(token: UInt(bitPattern: context), type: type)
}
