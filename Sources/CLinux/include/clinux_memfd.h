/* Sealed memory files. */
#pragma once

#include <stdint.h>

#define CLINUX_SEAL_SEAL 0x0001
#define CLINUX_SEAL_SHRINK 0x0002
#define CLINUX_SEAL_GROW 0x0004
#define CLINUX_SEAL_WRITE 0x0008

int clinux_memfd(const char *name); /* CLOEXEC, sealable */
int clinux_add_seals(int descriptor, int seals);
int clinux_get_seals(int descriptor);
