// swift-tools-version: 6.3
import PackageDescription

// Imports point down only, and features never import each other: they meet in the executables
// (docs/ARCHITECTURE.md). tools/check compares every `import` with this table.

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
    // Nothing here uses regular expressions: without this, a megabyte of them is linked into every process.
    .unsafeFlags(["-Xfrontend", "-disable-implicit-string-processing-module-import"]),
]

/// The kinds of target by layer, so that the table below reads as the architecture does.
func pure(_ name: String, _ dependencies: [Target.Dependency] = []) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func wrapper(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func feature(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .target(name: name, dependencies: dependencies, swiftSettings: strict)
}

func tests(_ name: String, _ dependencies: [Target.Dependency], exclude: [String] = []) -> Target {
    .testTarget(name: name, dependencies: dependencies, exclude: exclude, swiftSettings: strict)
}

let argumentParser = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")

let package = Package(
    name: "culvert",
    products: [
        .executable(name: "meshd", targets: ["meshd"]),
        .executable(name: "meshctl", targets: ["meshctl"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2")
    ],
    targets: [
        // C modules
        .target(name: "CMeshABI", path: "bpf/abi", publicHeadersPath: "."),
        .target(name: "CBPFObjects", dependencies: ["CMeshABI"]),
        .target(name: "CLinux", linkerSettings: [.linkedLibrary("seccomp")]),
        .systemLibrary(name: "CLibBPF", pkgConfig: "libbpf", providers: [.apt(["libbpf-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CNGHTTP2", pkgConfig: "libnghttp2", providers: [.apt(["libnghttp2-dev"])]),
        .systemLibrary(name: "CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),

        // Pure: no system call, no clock, no randomness of their own
        pure("MeshModel", ["CMeshABI"]),
        pure("MeshPolicy", ["MeshModel", "CMeshABI"]),
        pure("MeshConfig", ["DNSMessages", "MeshModel", "CYAML"]),
        pure("HTTP2Framing", ["CNGHTTP2", "MeshModel", "CMeshABI"]),
        pure("HBONE", ["HTTP2Framing", "MeshModel", "CMeshABI"]),
        pure("DNSMessages", ["MeshModel"]),
        pure("Telemetry", ["MeshModel", "CMeshABI"]),
        pure("ProxyControl", ["MeshModel", "CMeshABI"]),

        // Wrappers of the operating system and of C libraries
        wrapper("LinuxIO", ["CLinux"]),
        wrapper("BPFRuntime", ["CLibBPF", "CBPFObjects", "CMeshABI", "CLinux", "LinuxIO"]),
        wrapper("OpenSSLTLS", ["COpenSSL", "CLinux", "MeshModel", "CMeshABI"]),

        // Features
        feature(
            "Interception",
            [
                "BPFRuntime", "LinuxIO", "CLinux", "CMeshABI", "MeshModel", "MeshPolicy", "ProxyControl", "Telemetry",
            ]),
        feature(
            "DataPlane",
            [
                "LinuxIO", "CLinux", "CMeshABI", "OpenSSLTLS", "HTTP2Framing", "HBONE", "DNSMessages", "MeshModel",
                "MeshPolicy", "ProxyControl", "Telemetry",
            ]),
        feature("MeshIdentity", ["OpenSSLTLS", "LinuxIO", "CLinux", "MeshModel"]),
        feature("MeshDiscovery", ["MeshConfig", "MeshModel", "LinuxIO", "CLinux"]),
        feature("AdminAPI", ["LinuxIO", "CLinux", "MeshModel", "Telemetry"]),
        feature("TerminalUI", ["AdminAPI", "LinuxIO", "CLinux", "MeshModel", "Telemetry"]),

        // Executables
        .executableTarget(
            name: "meshd",
            dependencies: [
                "Interception", "DataPlane", "MeshIdentity", "MeshDiscovery", "AdminAPI", "MeshConfig", "MeshModel",
                "OpenSSLTLS",
                "MeshPolicy", "Telemetry", "ProxyControl", "LinuxIO", "CLinux", "CMeshABI",
            ],
            swiftSettings: strict),
        .executableTarget(
            name: "meshctl",
            dependencies: [
                "AdminAPI", "TerminalUI", "MeshIdentity", "MeshDiscovery", "MeshConfig", "MeshModel", "MeshPolicy",
                "Telemetry", "LinuxIO", "CLinux", argumentParser,
            ],
            swiftSettings: strict),

        // A stand-in for the proxy, for InterceptionTests
        .executableTarget(
            name: "interception-fixture", dependencies: ["ProxyControl", "LinuxIO", "CLinux", "MeshModel", "CMeshABI"],
            path: "Tests/InterceptionFixture",
            swiftSettings: strict),

        // What tools/guards counts instructions, allocations and system calls of
        .target(name: "CRelayGuard", dependencies: ["CMeshABI"], path: "Tests/RelayGuard/Shared"),
        .executableTarget(
            name: "relay-guard",
            dependencies: [
                "CRelayGuard", "DataPlane", "OpenSSLTLS", "MeshModel", "ProxyControl", "LinuxIO", "CLinux", "CMeshABI",
            ],
            path: "Tests/RelayGuard/Harness", swiftSettings: strict),
        // Tries system calls behind the proxy's filter, for DataPlaneTests
        .executableTarget(name: "confinement-fixture", dependencies: ["CLinux"], path: "Tests/ConfinementFixture"),

        // Tests
        tests("MeshModelTests", ["MeshModel", "CMeshABI"]),
        tests("MeshPolicyTests", ["MeshPolicy", "MeshModel", "CMeshABI"]),
        tests("MeshConfigTests", ["MeshConfig", "MeshModel"]),
        tests("MeshDiscoveryTests", ["MeshDiscovery", "MeshConfig", "MeshModel", "LinuxIO"]),
        tests("HTTP2FramingTests", ["HTTP2Framing", "CNGHTTP2", "MeshModel", "CMeshABI"]),
        tests("DNSMessagesTests", ["DNSMessages", "MeshModel"]),
        tests("HBONETests", ["HBONE", "HTTP2Framing", "MeshModel", "CMeshABI"]),
        .target(
            name: "FuzzTargets",
            dependencies: [
                "HBONE", "HTTP2Framing", "ProxyControl", "DNSMessages", "MeshConfig", "MeshModel", "CMeshABI",
                "OpenSSLTLS", "MeshIdentity", "Telemetry", "AdminAPI", "TerminalUI", "LinuxIO",
            ],
            path: "Tests/Fuzzing/Targets", swiftSettings: strict),
        .testTarget(
            name: "FuzzCorpusTests", dependencies: ["FuzzTargets"], path: "Tests/Fuzzing/CorpusTests",
            swiftSettings: strict),
        tests("TelemetryTests", ["Telemetry", "MeshModel", "CMeshABI"]),
        tests("ProxyControlTests", ["ProxyControl", "MeshModel", "CMeshABI"]),
        tests("LinuxIOTests", ["LinuxIO", "CLinux"]),
        tests(
            "KernelTests", ["BPFRuntime", "Interception", "LinuxIO", "MeshModel", "CLinux", "CMeshABI"],
            exclude: ["driver"]),
        tests("OpenSSLTLSTests", ["OpenSSLTLS", "COpenSSL", "LinuxIO", "CLinux", "MeshModel", "CMeshABI"]),
        tests("MeshIdentityTests", ["MeshIdentity", "OpenSSLTLS", "MeshModel", "LinuxIO", "CLinux"]),
        tests(
            "InterceptionTests",
            ["Interception", "BPFRuntime", "LinuxIO", "CLinux", "CMeshABI", "MeshModel", "ProxyControl"]),
        tests(
            "DataPlaneTests",
            [
                "DataPlane", "DNSMessages", "OpenSSLTLS", "HTTP2Framing", "HBONE", "MeshModel", "ProxyControl",
                "LinuxIO",
                "CLinux",
                "CMeshABI", "MeshIdentity",
            ]),
        tests("AdminAPITests", ["AdminAPI", "Telemetry", "MeshModel", "LinuxIO"]),
        tests("TerminalUITests", ["TerminalUI", "AdminAPI", "Telemetry", "MeshModel"]),
        tests("EndToEndTests", ["LinuxIO", "CLinux"]),
    ]
)
