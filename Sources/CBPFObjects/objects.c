#include "CBPFObjects.h"

#pragma clang diagnostic ignored "-Wc23-extensions"

#if !__has_include("generated/mesh.bpf.o")
#error "the BPF programs are not compiled: run tools/build, which does that and then builds the package"
#else
const unsigned char culvert_bpf_object[] __attribute__((aligned(8))) = {
#embed "generated/mesh.bpf.o"
};
const size_t culvert_bpf_object_size = sizeof(culvert_bpf_object);
#endif
