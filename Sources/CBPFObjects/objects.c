/* The BPF programs as bytes inside the binary: what tools/build has compiled and linked. */
#include "CBPFObjects.h"

#include "mesh_abi.h"

#pragma clang diagnostic ignored "-Wc23-extensions"

#if !__has_include("generated/mesh.bpf.o")
#error "the BPF programs are not compiled: run tools/build, which does that and then builds the package"
#else
static const unsigned char object[] __attribute__((aligned(8))) = {
#embed "generated/mesh.bpf.o"
};

const void *culvert_bpf_object(void)
{
	return object;
}

size_t culvert_bpf_object_size(void)
{
	return sizeof(object);
}

uint32_t culvert_bpf_layout(void)
{
	return MESH_LAYOUT;
}

uint8_t culvert_bpf_abi_version(void)
{
	return MESH_ABI_VERSION;
}
#endif
