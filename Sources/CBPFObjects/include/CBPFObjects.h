/* The BPF programs of bpf/, compiled and linked into one object by tools/build, carried inside the meshd binary. */
#pragma once

#include <stddef.h>

extern const unsigned char culvert_bpf_object[];
extern const size_t culvert_bpf_object_size;
