// swift-tools-version: 6.2
import PackageDescription

// What script/bench runs beside the products themselves. A package of its own, so that nobody who builds hkagent builds it.
let package = Package(
    name: "hotkey-benchmarks",
    dependencies: [
        .package(name: "hotkey", path: ".."),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
    ],
    targets: [
        .target(name: "AllocationCount"),
        .executableTarget(
            name: "DetectionDriver",
            dependencies: ["AllocationCount", .product(name: "HotKeyDetection", package: "hotkey")],
            swiftSettings: [.enableUpcomingFeature("ExistentialAny"), .treatAllWarnings(as: .error)]),
        .executableTarget(
            name: "FanoutAgents",
            dependencies: [
                .product(name: "HotKeyRegistry", package: "hotkey"), .product(name: "ZooKeeper", package: "hotkey"),
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: [.enableUpcomingFeature("ExistentialAny"), .treatAllWarnings(as: .error)]),
        .executableTarget(
            name: "FleetAgents",
            dependencies: [
                .product(name: "_HotKeyAgent", package: "hotkey"), .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: [.enableUpcomingFeature("ExistentialAny"), .treatAllWarnings(as: .error)]),
        // In C and on the bare library, so that nothing of ours is in what ours is measured against.
        .executableTarget(name: "FanoutFloor", linkerSettings: [.linkedLibrary("zookeeper_mt")]),
    ],
    swiftLanguageModes: [.v6])
