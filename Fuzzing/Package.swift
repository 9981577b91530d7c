// swift-tools-version: 6.2
import PackageDescription

// What script/fuzz runs. A package of its own, so that nobody who builds hkagent builds it; its RESP is the agent's own (a link),
// built with the fuzzer's instrumentation.
let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"), .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"), .treatAllWarnings(as: .error),
]

let package = Package(
    name: "hotkey-fuzzing",
    dependencies: [.package(url: "https://github.com/apple/swift-nio", from: "2.101.2")],
    targets: [
        .target(name: "RESP", dependencies: [.product(name: "NIOCore", package: "swift-nio")], swiftSettings: settings),
        .executableTarget(
            name: "Fuzz", dependencies: ["RESP", .product(name: "NIOCore", package: "swift-nio")],
            swiftSettings: settings),
    ],
    swiftLanguageModes: [.v6])
