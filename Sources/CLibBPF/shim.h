/* libbpf as Swift sees it. BPFRuntime alone imports it. */
#pragma once
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
