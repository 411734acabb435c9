/*
 * The BPF programs of bpf/, compiled and linked into one object by tools/build, carried inside the meshd binary; and
 * libbpf's log, whose callback takes a va_list and so can't be Swift.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

const void *culvert_bpf_object(void);
size_t culvert_bpf_object_size(void);

/* MESH_LAYOUT and MESH_ABI_VERSION that the programs were compiled with. */
uint32_t culvert_bpf_layout(void);
uint8_t culvert_bpf_abi_version(void);

/* Sends libbpf's warnings to sink, a line at a time, instead of to standard error. */
void culvert_libbpf_log_to(void (*sink)(const char *line));
