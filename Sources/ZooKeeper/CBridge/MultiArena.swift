internal import CZooKeeper
import Foundation

/// Memory of one multi. The library writes results, path buffers and stats until the completion, long after the call
/// has returned (P24); strings, data and access control it reads during the call only. All of it lives here, and here
/// lives as long as the pending call.
///
/// Sendable because three take turns, never two at once: `init` before the call is issued, the library between the
/// call and the completion, and ``outcome()`` after the completion or, when the handle was closed, after its threads
/// were joined.
final class MultiArena: @unchecked Sendable {
    let operations: UnsafeMutablePointer<zoo_op_t>
    let results: UnsafeMutablePointer<zoo_op_result_t>
    let count: Int
    private let kinds: [StoreOperation]
    private var owned: [UnsafeMutableRawPointer] = []
    private var accessControl: [LibraryAccessControl] = []

    /// - Parameter list: with the paths as the server knows them, checked (P25), at least one.
    init(_ list: [StoreOperation]) {
        kinds = list
        count = list.count
        operations = .allocate(capacity: list.count)
        operations.initialize(repeating: zoo_op_t(), count: list.count)
        results = .allocate(capacity: list.count)
        results.initialize(repeating: zoo_op_result_t(), count: list.count)
        for (index, operation) in list.enumerated() {
            let slot = operations + index
            switch operation {
            case .check(let path, let version):
                zoo_check_op_init(slot, string(path), version)
            case .delete(let path, let version):
                zoo_delete_op_init(slot, string(path), version ?? -1)
            case .set(let path, let data, let version):
                zoo_set_op_init(slot, string(path), bytes(data), Int32(data.count), version ?? -1, stat())
            case .create(let path, let data, let mode, let acl):
                let list = LibraryAccessControl(acl)
                accessControl.append(list)
                let capacity = path.utf8.count + ZooKeeperLimits.sequenceSuffixBytes
                zoo_create_op_init(
                    slot, string(path), bytes(data), Int32(data.count), list.pointer, mode.libraryFlags,
                    buffer(capacity).assumingMemoryBound(to: CChar.self), Int32(capacity))
            }
        }
    }

    deinit {
        for pointer in owned { free(pointer) }
        operations.deallocate()
        results.deallocate()
    }

    /// What the operations gave, after the multi succeeded. `nil` when a result is missing.
    func outcome() -> [StoreOperationResult]? {
        var outcome: [StoreOperationResult] = []
        outcome.reserveCapacity(count)
        for (index, kind) in kinds.enumerated() {
            let result = results[index]
            switch kind {
            case .check: outcome.append(.checked)
            case .delete: outcome.append(.deleted)
            case .set:
                guard let stat = result.stat else { return nil }
                outcome.append(.set(NodeStat(stat.pointee)))
            case .create:
                guard let path = result.value else { return nil }
                outcome.append(.created(String(cString: path)))
            }
        }
        return outcome
    }

    /// The operation that made the multi fail. The others carry 0 (before it) or "runtime inconsistency" (after it). A
    /// failure of the connection stands in all of them and is nobody's.
    func failedIndex(_ rc: Int32) -> Int? {
        guard CallFailure.isAboutNode(rc) else { return nil }
        return (0..<count).first { results[$0].err == rc }
    }

    private func buffer(_ count: Int) -> UnsafeMutableRawPointer {
        let pointer = calloc(1, max(1, count))!
        owned.append(pointer)
        return pointer
    }

    private func string(_ text: String) -> UnsafePointer<CChar> {
        let pointer = strdup(text)!
        owned.append(UnsafeMutableRawPointer(pointer))
        return UnsafePointer(pointer)
    }

    private func bytes(_ data: [UInt8]) -> UnsafePointer<CChar> {
        let pointer = buffer(data.count)
        data.withUnsafeBytes { source in
            if let base = source.baseAddress { pointer.copyMemory(from: base, byteCount: source.count) }
        }
        return UnsafePointer(pointer.assumingMemoryBound(to: CChar.self))
    }

    private func stat() -> UnsafeMutablePointer<Stat> {
        buffer(MemoryLayout<Stat>.size).bindMemory(to: Stat.self, capacity: 1)
    }
}
