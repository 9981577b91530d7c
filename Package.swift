// swift-tools-version: 6.2
import PackageDescription

// One array for every target. Each feature links to the proposal that defines it.
let settings: [SwiftSetting] = [
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0335-existential-any.md
    .enableUpcomingFeature("ExistentialAny"),
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0409-access-level-on-imports.md
    .enableUpcomingFeature("InternalImportsByDefault"),
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0444-member-import-visibility.md
    .enableUpcomingFeature("MemberImportVisibility"),
    // https://github.com/swiftlang/swift-evolution/blob/main/proposals/0443-warning-control-flags.md
    .treatAllWarnings(as: .error),
]

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let deque = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let heap = Target.Dependency.product(name: "HeapModule", package: "swift-collections")
let hummingbird = Target.Dependency.product(name: "Hummingbird", package: "hummingbird")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let lifecycleSignals = Target.Dependency.product(name: "UnixSignals", package: "swift-service-lifecycle")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let nioConcurrency = Target.Dependency.product(name: "NIOConcurrencyHelpers", package: "swift-nio")
let nioCore = Target.Dependency.product(name: "NIOCore", package: "swift-nio")
let nioPosix = Target.Dependency.product(name: "NIOPosix", package: "swift-nio")
let nioSSL = Target.Dependency.product(name: "NIOSSL", package: "swift-nio-ssl")
let nioTLS = Target.Dependency.product(name: "NIOTLS", package: "swift-nio")
let yams = Target.Dependency.product(name: "Yams", package: "Yams")

let package = Package(
    name: "hotkey",
    products: [
        .executable(name: "hkagent", targets: ["hkagent"]),
        .executable(name: "hkctl", targets: ["hkctl"]),
        // For Benchmarks/ alone: no public interface.
        .library(name: "_HotKeyAgent", targets: ["HotKeyAgent"]),
        .library(name: "HotKeyDetection", targets: ["HotKeyDetection"]),
        .library(name: "HotKeyRegistry", targets: ["HotKeyRegistry"]),
        .library(name: "ZooKeeper", targets: ["ZooKeeper"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.1"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
    ],
    targets: [
        // The registry: ZooKeeper and the documents in it.
        .systemLibrary(name: "CZooKeeper", providers: [.apt(["libzookeeper-mt-dev"])]),
        .target(
            name: "ZooKeeper", dependencies: ["CZooKeeper", logging, nioConcurrency], swiftSettings: settings),
        .target(name: "StrictCoding", dependencies: [yams], swiftSettings: settings),
        .target(
            name: "HotKeyRegistry", dependencies: ["StrictCoding", "ZooKeeper", logging, nioConcurrency],
            swiftSettings: settings),

        // Decisions: no I/O, no clock, no randomness of their own.
        .target(name: "HotKeyDetection", swiftSettings: settings),
        .target(name: "HotKeyMitigation", swiftSettings: settings),
        // What both the agent and its tools make of the registry's rules.
        .target(
            name: "HotKeyRules", dependencies: ["HotKeyDetection", "HotKeyMitigation", "HotKeyRegistry"],
            swiftSettings: settings),
        // What the fleet would have made of a trace.
        .target(
            name: "HotKeySimulation",
            dependencies: ["HotKeyDetection", "HotKeyMitigation", "HotKeyRegistry", "HotKeyRules", "RESP"],
            swiftSettings: settings),

        // Who may connect to what: TLS, passwords, and the files they come from.
        .target(
            name: "TransportSecurity", dependencies: [nioConcurrency, nioCore, nioPosix, nioSSL, nioTLS],
            swiftSettings: settings),

        // The data path.
        .target(
            name: "SocketIO", dependencies: [deque, heap, nioConcurrency, nioCore, nioPosix], swiftSettings: settings),
        .target(name: "RESP", dependencies: [nioCore], swiftSettings: settings),
        .target(
            name: "RedisProxy",
            dependencies: [
                "HotKeyMitigation", "RESP", "SocketIO", "TransportSecurity", deque, logging, nioConcurrency, nioCore,
            ],
            swiftSettings: settings),

        // The agent, and what asks it.
        .target(
            name: "HotKeyPeer", dependencies: ["RESP", "TransportSecurity", deque, nioConcurrency, nioCore, nioPosix],
            swiftSettings: settings),
        // Hot keys by the cache nodes' own counters.
        .target(
            name: "HotKeyScan",
            dependencies: [
                "HotKeyMitigation", "HotKeyPeer", "HotKeyRegistry", "RESP", "TransportSecurity", nioCore, nioPosix,
            ],
            swiftSettings: settings),
        .target(
            name: "HotKeyAgent",
            dependencies: [
                "HotKeyDetection", "HotKeyMitigation", "HotKeyPeer", "HotKeyRegistry", "HotKeyRules", "HotKeyScan",
                "RESP",
                "RedisProxy", "SocketIO", "StrictCoding", "TransportSecurity", "ZooKeeper", hummingbird, lifecycle,
                logging,
                nioConcurrency, nioCore, nioPosix,
            ],
            swiftSettings: settings),
        .executableTarget(
            name: "hkagent",
            dependencies: ["HotKeyAgent", argumentParser, lifecycle, lifecycleSignals, logging],
            swiftSettings: settings),
        .executableTarget(
            name: "hkctl",
            dependencies: [
                "HotKeyDetection", "HotKeyMitigation", "HotKeyPeer", "HotKeyRegistry", "HotKeyRules", "HotKeyScan",
                "HotKeySimulation", "StrictCoding", "TransportSecurity", "ZooKeeper", argumentParser, logging,
            ],
            swiftSettings: settings),

        // Real servers and faults for the tests.
        .target(
            name: "HotKeyTestSupport", dependencies: ["ZooKeeper", nioConcurrency, nioCore, nioPosix],
            swiftSettings: settings),
        .testTarget(
            name: "ZooKeeperTests", dependencies: ["HotKeyTestSupport", "ZooKeeper", logging],
            swiftSettings: settings),
        .testTarget(
            name: "RegistryTests",
            dependencies: ["HotKeyRegistry", "HotKeyTestSupport", "StrictCoding", "ZooKeeper", logging],
            swiftSettings: settings),
        .testTarget(name: "StrictCodingTests", dependencies: ["StrictCoding"], swiftSettings: settings),
        .testTarget(name: "HotKeyDetectionTests", dependencies: ["HotKeyDetection"], swiftSettings: settings),
        .testTarget(
            name: "HotKeyMitigationTests", dependencies: ["HotKeyMitigation"], exclude: ["Vectors/generate-vectors"],
            swiftSettings: settings),
        .testTarget(
            name: "RESPTests", dependencies: ["HotKeyTestSupport", "RESP", nioCore], swiftSettings: settings),
        .testTarget(
            name: "SocketIOTests", dependencies: ["HotKeyTestSupport", "SocketIO", nioCore], swiftSettings: settings),
        .testTarget(
            name: "RedisProxyTests",
            dependencies: [
                "HotKeyMitigation", "HotKeyPeer", "HotKeyTestSupport", "RESP", "RedisProxy", "SocketIO",
                "TransportSecurity", logging,
                nioCore, nioPosix,
            ],
            swiftSettings: settings),
        .testTarget(
            name: "HotKeyAgentTests",
            dependencies: [
                "HotKeyAgent", "HotKeyDetection", "HotKeyMitigation", "HotKeyPeer", "HotKeyRegistry",
                "HotKeyRules", "HotKeyTestSupport", "RedisProxy", logging, nioConcurrency, nioCore, nioPosix,
            ],
            swiftSettings: settings),
        .testTarget(
            name: "HotKeyPeerTests",
            dependencies: ["HotKeyPeer", "HotKeyTestSupport", "RESP", nioCore, nioPosix], swiftSettings: settings),
        .testTarget(
            name: "TransportSecurityTests",
            dependencies: ["HotKeyTestSupport", "TransportSecurity", nioCore, nioPosix], swiftSettings: settings),
        .testTarget(
            name: "HotKeySimulationTests",
            dependencies: [
                "HotKeyDetection", "HotKeyMitigation", "HotKeyRegistry", "HotKeyRules", "HotKeySimulation",
            ], swiftSettings: settings),
        .testTarget(
            name: "HotKeyScanTests",
            dependencies: ["HotKeyPeer", "HotKeyRegistry", "HotKeyScan", "HotKeyTestSupport", "RESP"],
            swiftSettings: settings),
        // These run the built hkagent and hkctl.
        .testTarget(
            name: "CommandLineTests", dependencies: ["HotKeyTestSupport"], swiftSettings: settings),
        .testTarget(
            name: "EndToEndTests", dependencies: ["HotKeyPeer", "HotKeyTestSupport", nioConcurrency],
            swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6]
)
