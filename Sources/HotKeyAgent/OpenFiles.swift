import Glibc

/// How many files and sockets this process may have open.
enum OpenFiles {
    /// Raises the limit as far as the system lets this process, and returns what it is now.
    static func raiseLimit() -> Int {
        var limit = rlimit()
        guard getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
        if limit.rlim_cur < limit.rlim_max {
            let before = limit.rlim_cur
            limit.rlim_cur = limit.rlim_max
            if setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) != 0 { limit.rlim_cur = before }
        }
        return Int(clamping: limit.rlim_cur)
    }

    /// How many clients fit, of as many as are asked for. What the agent needs itself is kept free, or clients could take the sockets
    /// that it reaches the cache nodes and ZooKeeper with.
    static func clientsMax(_ asked: Int, limit: Int) -> Int {
        min(asked, max(1, limit - min(AgentLimits.ownFiles, limit / 2)))
    }
}
