package import CMeshABI

/// Why something was refused, reset or closed: the same closed list as the kernel side's (`bpf/abi/mesh_reason.h`).
package typealias Reason = mesh_reason
