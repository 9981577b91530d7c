import HotKeyRegistry
import StrictCoding

/// What an agent that runs by itself may and must be told.
struct StandaloneSettings {
    /// What the app is called where nobody named it: there is no other.
    static let app = "standalone"
    private static let only = ["nodes", "rulesFile"]

    private let isStandalone: Bool

    init(_ layers: Layers) { isStandalone = layers.configuration.standalone }

    /// Whether a required setting may be missing.
    func providesFor(_ setting: Setting) -> Bool {
        isStandalone && ["app", "zookeeper.servers"].contains(setting.name)
    }

    func check(_ layers: inout Layers) {
        guard isStandalone else {
            for name in Self.only where layers.origins[name] != nil {
                layers.refuse(
                    name,
                    expected: "standalone beside it, as cache nodes and rules come from the registry otherwise "
                        + "(`hkctl init`, `hkctl topology apply`, `hkctl rules apply`)")
            }
            return
        }
        if layers.origins["app"] == nil { layers.configuration.app = Self.app }
        for setting in Setting.all where setting.name.hasPrefix("zookeeper.") && layers.origins[setting.name] != nil {
            layers.refuse(
                setting.name,
                expected: "nothing beside standalone, which uses no ZooKeeper: leave out one of the two")
        }
        if layers.configuration.nodes.isEmpty {
            layers.problems.append(
                "nodes: expected NAME=HOST:PORT,… beside standalone, found none: an agent that runs by itself has nobody else "
                    + "who tells it the cache nodes")
        }
        if layers.configuration.coordinator != .auto {
            layers.refuse("coordinator", expected: "auto beside standalone: one agent serves apps and coordinates")
        }
        readRules(into: &layers)
    }

    private func readRules(into layers: inout Layers) {
        guard let path = layers.configuration.rulesFile else { return }
        do {
            let contents = try BoundedFile.read(path, bytesMax: RulesDocument.bytesMax)
            layers.configuration.standaloneRules = try RegistryCodec.decode(
                RulesDocument.self, from: contents.bytes, source: path)
        } catch {
            layers.problems.append("\(error)")
        }
    }
}
