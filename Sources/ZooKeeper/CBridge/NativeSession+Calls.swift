internal import CZooKeeper

/// The library's calls, one for one, in Swift's types. Paths are the server's and have been checked.
extension NativeSession {
    typealias Reply<Value> = @Sendable (Result<Value, CallFailure>) -> Void
    typealias WatchHandler = @Sendable (WatchEvent) -> Void

    /// Hands over what the reply holds, when it is what was asked for.
    private static func deliver<Value>(
        to reply: @escaping Reply<Value>, _ extract: @escaping @Sendable (CallReply) -> Value?
    ) -> @Sendable (CallReply) -> Void {
        { callReply in
            if case .failure(let rc) = callReply {
                reply(.failure(CallFailure(libraryCode: rc)))
            } else if let value = extract(callReply) {
                reply(.success(value))
            } else {
                reply(.failure(CallFailure(.marshalling, message: "the reply is of another kind than the request")))
            }
        }
    }

    func get(_ path: String, watch: WatchHandler?, reply: @escaping Reply<NodeValue>) -> Submission {
        let deliver = Self.deliver(to: reply) {
            if case .data(let data, let stat) = $0 { NodeValue(data: data, stat: stat) } else { nil }
        }
        return submit(watch: watch, deliver: deliver) { handle, context, token in
            zoo_awget(handle, path, token == nil ? nil : nodeWatcher, token, dataCompletion, context)
        }
    }

    /// `nil` is the reply for a missing node, which is not an error here.
    func exists(_ path: String, watch: WatchHandler?, reply: @escaping Reply<NodeStat?>) -> Submission {
        let deliver: @Sendable (CallReply) -> Void = { callReply in
            switch callReply {
            case .stat(let stat): reply(.success(stat))
            case .failure(ZNONODE.rawValue): reply(.success(nil))
            case .failure(let rc): reply(.failure(CallFailure(libraryCode: rc)))
            default:
                reply(.failure(CallFailure(.marshalling, message: "the reply is of another kind than the request")))
            }
        }
        return submit(watch: watch, armsOnMissing: true, deliver: deliver) { handle, context, token in
            zoo_awexists(handle, path, token == nil ? nil : nodeWatcher, token, statCompletion, context)
        }
    }

    func children(_ path: String, watch: WatchHandler?, reply: @escaping Reply<NodeChildren>) -> Submission {
        let deliver = Self.deliver(to: reply) {
            if case .names(let names, let stat) = $0 { NodeChildren(names: names, stat: stat) } else { nil }
        }
        return submit(watch: watch, deliver: deliver) { handle, context, token in
            zoo_awget_children2(handle, path, token == nil ? nil : nodeWatcher, token, childrenCompletion, context)
        }
    }

    func set(_ path: String, _ data: [UInt8], version: Int32, reply: @escaping Reply<NodeStat>) -> Submission {
        let deliver = Self.deliver(to: reply) { if case .stat(let stat) = $0 { stat } else { nil } }
        return submit(isProof: true, deliver: deliver) { handle, context, _ in
            withLibraryBytes(data) { zoo_aset(handle, path, $0, Int32(data.count), version, statCompletion, context) }
        }
    }

    func create(
        _ path: String, _ data: [UInt8], mode: CreateMode, acl: [AccessControl], reply: @escaping Reply<String>
    ) -> Submission {
        let deliver = Self.deliver(to: reply) { if case .path(let path) = $0 { path } else { nil } }
        let list = LibraryAccessControl(acl)
        return submit(isProof: true, deliver: deliver) { handle, context, _ in
            withExtendedLifetime(list) {
                withLibraryBytes(data) {
                    zoo_acreate(
                        handle, path, $0, Int32(data.count), list.pointer, mode.libraryFlags, pathCompletion, context)
                }
            }
        }
    }

    func delete(_ path: String, version: Int32, reply: @escaping Reply<Void>) -> Submission {
        submit(isProof: true, deliver: Self.deliver(to: reply) { if case .done = $0 { () } else { nil } }) {
            handle, context, _ in
            zoo_adelete(handle, path, version, voidCompletion, context)
        }
    }

    func sync(_ path: String, reply: @escaping Reply<Void>) -> Submission {
        submit(isProof: true, deliver: Self.deliver(to: reply) { if case .path = $0 { () } else { nil } }) {
            handle, context, _ in
            zoo_async(handle, path, pathCompletion, context)
        }
    }

    func accessControl(_ path: String, reply: @escaping Reply<(acl: [AccessControl], stat: NodeStat)>) -> Submission {
        let deliver = Self.deliver(to: reply) {
            if case .accessControl(let acl, let stat) = $0 { (acl: acl, stat: stat) } else { nil }
        }
        return submit(deliver: deliver) { handle, context, _ in
            zoo_aget_acl(handle, path, accessControlCompletion, context)
        }
    }

    func setAccessControl(_ path: String, _ acl: [AccessControl], version: Int32, reply: @escaping Reply<Void>)
        -> Submission
    {
        let list = LibraryAccessControl(acl)
        return submit(isProof: true, deliver: Self.deliver(to: reply) { if case .done = $0 { () } else { nil } }) {
            handle, context, _ in
            withExtendedLifetime(list) {
                zoo_aset_acl(handle, path, version, list.pointer, voidCompletion, context)
            }
        }
    }

    func multi(_ operations: [StoreOperation], reply: @escaping Reply<[StoreOperationResult]>) -> Submission {
        let arena = MultiArena(operations)
        let deliver: @Sendable (CallReply) -> Void = { callReply in
            switch callReply {
            case .failure(let rc):
                reply(.failure(CallFailure(libraryCode: rc, operationIndex: arena.failedIndex(rc))))
            case .done:
                if let outcome = arena.outcome() {
                    reply(.success(outcome))
                } else {
                    reply(.failure(CallFailure(.marshalling, message: "the reply lacks the result of an operation")))
                }
            default:
                reply(.failure(CallFailure(.marshalling, message: "the reply is of another kind than the request")))
            }
        }
        return submit(isProof: true, arena: arena, deliver: deliver) { handle, context, _ in
            czk_amulti(handle, Int32(arena.count), arena.operations, arena.results, voidCompletion, context)
        }
    }

    /// The library keeps the credential and sends it again on every reconnection of this handle, before anything else.
    func authenticate(_ credential: ZooKeeperCredential, reply: @escaping Reply<Void>) -> Submission {
        submit(deliver: Self.deliver(to: reply) { if case .done = $0 { () } else { nil } }) { handle, context, _ in
            withLibraryBytes(credential.secret) {
                zoo_add_auth(
                    handle, credential.scheme, $0, Int32(credential.secret.count), authenticationCompletion, context)
            }
        }
    }

    /// A sign of life: its answer, whatever it says, is proof of contact.
    func probe() {
        _ = exists("/", watch: nil) { _ in }
    }
}

/// Never NULL, which would mean "unset" instead of "empty".
private func withLibraryBytes(_ data: [UInt8], _ body: (UnsafePointer<CChar>) -> Int32) -> Int32 {
    guard !data.isEmpty else { return withUnsafePointer(to: CChar(0), body) }
    return data.withUnsafeBytes { body($0.baseAddress!.assumingMemoryBound(to: CChar.self)) }
}
