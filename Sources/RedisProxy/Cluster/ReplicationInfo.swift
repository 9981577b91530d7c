/// What a node says of itself in `INFO replication`.
struct ReplicationInfo: Hashable {
    var isPrimary: Bool
    /// Of a replica: whether it has its primary's stream now.
    var isLinked: Bool
    var history: [UInt8]
    /// Of a primary, what it has given out; of a replica, what it has carried out.
    var offset: Int64

    /// - Parameter reply: the payload of the bulk string. nil when something of it is missing.
    init?(_ reply: UnsafeRawBufferPointer) {
        var fields: [Substring: Substring] = [:]
        for line in String(decoding: reply, as: UTF8.self).split(whereSeparator: \.isNewline) {
            guard let colon = line.firstIndex(of: ":") else { continue }
            fields[line[..<colon]] = line[line.index(after: colon)...]
        }
        guard let role = fields["role"], let history = fields["master_replid"],
            let offset = fields[role == "master" ? "master_repl_offset" : "slave_repl_offset"].flatMap({ Int64($0) })
        else { return nil }
        isPrimary = role == "master"
        isLinked = fields["master_link_status"] == "up"
        self.history = Array(history.utf8)
        self.offset = offset
    }
}
