import HotKeyPeer
public import HotKeyRegistry

extension ScanNode {
    /// Nil for an address that nothing can be dialled at.
    public init?(_ node: TopologyDocument.Node) {
        guard let address = PeerAddress(node.address) else { return nil }
        self.init(name: node.name, address: address)
    }
}

extension ScanResult {
    /// The name under which scans stand in `sources/`.
    public static let sourceName = "scan"

    /// The keys of which a rate is known, as candidates of the grade `estimate`; the hottest, when not all fit the document.
    ///
    /// - Parameter expiresAt: by the ensemble's clock.
    public func document(expiresAt: Timestamp) -> SourceDocument {
        // A key that was moved from one node to another meanwhile is named by both.
        var seen: Set<[UInt8]> = []
        let candidates = keys.compactMap { scanned -> SourceDocument.Candidate? in
            guard let estimate = scanned.estimate, seen.insert(scanned.key).inserted else { return nil }
            return SourceDocument.Candidate(
                key: KeyName(scanned.key), readsPerSecond: Self.rounded(estimate.accessesPerSecond),
                errorPerSecond: Self.rounded(estimate.errorPerSecond), expiresAt: expiresAt)
        }
        return SourceDocument(grade: .estimate, fitting: candidates)
    }

    /// To a tenth.
    private static func rounded(_ rate: Double) -> Double { (rate * 10).rounded() / 10 }
}
