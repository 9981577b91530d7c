internal import CZooKeeper
import Foundation

extension NodeStat {
    init(_ stat: Stat) {
        self.init(
            createdTransaction: stat.czxid, modifiedTransaction: stat.mzxid, createdAtMilliseconds: stat.ctime,
            modifiedAtMilliseconds: stat.mtime, version: stat.version, childrenVersion: stat.cversion,
            aclVersion: stat.aversion, ephemeralOwner: stat.ephemeralOwner, dataLengthBytes: stat.dataLength,
            childCount: stat.numChildren)
    }
}

extension AccessControl {
    init(_ entry: ACL) {
        self.init(
            permissions: Permissions(rawValue: entry.perms), scheme: entry.id.scheme.map { String(cString: $0) } ?? "",
            identity: entry.id.id.map { String(cString: $0) } ?? "")
    }
}

extension CreateMode {
    var libraryFlags: Int32 {
        switch self {
        case .persistent: ZOO_PERSISTENT
        case .persistentSequential: ZOO_PERSISTENT_SEQUENTIAL
        case .ephemeral: ZOO_EPHEMERAL
        case .ephemeralSequential: ZOO_EPHEMERAL_SEQUENTIAL
        case .container: ZOO_CONTAINER
        }
    }
}

/// The library's events are globals, not cases (P20).
func watchEvent(_ type: Int32) -> WatchEvent {
    switch type {
    case ZOO_CREATED_EVENT: .created
    case ZOO_CHANGED_EVENT: .changed
    case ZOO_DELETED_EVENT: .deleted
    case ZOO_CHILD_EVENT: .childrenChanged
    // The server gave the watch up, or a kind that came after this library: all that is known is that nothing is.
    default: .sessionLost
    }
}

func errorText(_ code: Int32) -> String {
    String(cString: strerror(code))
}

/// An access control list in C's form, alive as long as the value.
///
/// Sendable because it is written in `init` only and read by one `zoo_a…` call or by its multi's arena.
final class LibraryAccessControl: @unchecked Sendable {
    let pointer: UnsafeMutablePointer<ACL_vector>
    private let owned: UnsafeMutableBufferPointer<ACL>?

    init(_ entries: [AccessControl]) {
        guard entries != AccessControl.openUnsafe else {
            pointer = czk_open_acl_unsafe()
            owned = nil
            return
        }
        let list = UnsafeMutableBufferPointer<ACL>.allocate(capacity: entries.count)
        for (index, entry) in entries.enumerated() {
            list.initializeElement(
                at: index,
                to: ACL(
                    perms: entry.permissions.rawValue, id: Id(scheme: strdup(entry.scheme), id: strdup(entry.identity)))
            )
        }
        pointer = .allocate(capacity: 1)
        pointer.initialize(to: ACL_vector(count: Int32(entries.count), data: list.baseAddress))
        owned = list
    }

    deinit {
        guard let owned else { return }
        for entry in owned {
            free(entry.id.scheme)
            free(entry.id.id)
        }
        owned.deallocate()
        pointer.deallocate()
    }
}
