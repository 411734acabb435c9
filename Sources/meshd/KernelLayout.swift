import CMeshABI

/// The number of the pinned maps' shape: part of their path, so that two shapes can stand side by side.
enum KernelLayout {
    static let current = MESH_LAYOUT
}
