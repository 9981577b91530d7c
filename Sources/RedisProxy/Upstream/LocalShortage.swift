import Glibc
import NIOCore
import SocketIO

/// What this host or process has no more of, so that a node could not be connected to. It says nothing about the node.
enum LocalShortage: Error {
    case descriptors, ports, memory, watches

    /// - Parameter error: why a connection could not be made; the result is `nil` where that may be the node's doing.
    init?(_ error: any Error) {
        switch error {
        case let error as LocalShortage: self = error
        case let error as IOError: self.init(errno: error.errnoCode)
        case let error as ConnectError:
            // A host may have several addresses. One that was tried and did not answer is the node's failure.
            let found = error.errors.map { LocalShortage($0) }
            guard let first = found.first ?? nil, found.allSatisfy({ $0 != nil }) else { return nil }
            self = first
        default: return nil
        }
    }

    private init?(errno code: CInt) {
        switch code {
        case EMFILE, ENFILE: self = .descriptors
        case EADDRNOTAVAIL: self = .ports
        case ENOBUFS, ENOMEM: self = .memory
        case ENOSPC: self = .watches
        default: return nil
        }
    }

    func text(_ node: ProxyNode) -> String {
        let (what, remedy) =
            switch self {
            case .descriptors:
                ("file descriptor", "raise its limit of open files (ulimit -n, LimitNOFILE=) or lower clientsMax")
            case .ports: ("local port", "widen net.ipv4.ip_local_port_range on its host")
            case .memory: ("memory for a socket", "free memory on its host")
            case .watches: ("place to watch a socket", "raise fs.epoll.max_user_watches on its host")
            }
        return
            "ERR hkagent has no \(what) left to connect to cache node \(node.name) (\(node.address)), nothing was sent; \(remedy)"
    }
}

extension ProxyLoop {
    /// A connection to a node has just taken its socket. A shared one may have one of the last: without it nobody is served.
    func checkDescriptors(isDedicated: Bool) throws {
        updateNow()
        if descriptors.isShort(now: now), isDedicated { throw LocalShortage.descriptors }
    }

    /// Why a node could not be connected to.
    func failureToConnect(_ error: any Error) -> UpstreamFailure {
        updateNow()
        var shortage = LocalShortage(error)
        // To look a name up takes descriptors too, and the error does not tell that there was none.
        if let error = error as? ConnectError, error.errors.isEmpty, descriptors.isShort(now: now) {
            shortage = .descriptors
        }
        guard let shortage else { return .cannotConnect }
        if case .descriptors = shortage { descriptors.noteShortage(now: now) }
        return .localShortage(shortage)
    }
}
