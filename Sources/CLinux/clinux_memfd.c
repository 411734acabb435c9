/* Memory that another process may map and nobody may change any more. */
#define _GNU_SOURCE
#include "clinux_memfd.h"

#include <fcntl.h>
#include <sys/mman.h>

_Static_assert(CLINUX_SEAL_SEAL == F_SEAL_SEAL, "seal");
_Static_assert(CLINUX_SEAL_SHRINK == F_SEAL_SHRINK, "shrink");
_Static_assert(CLINUX_SEAL_GROW == F_SEAL_GROW, "grow");
_Static_assert(CLINUX_SEAL_WRITE == F_SEAL_WRITE, "write");

int clinux_memfd(const char *name) { return memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING); }
int clinux_add_seals(int descriptor, int seals) { return fcntl(descriptor, F_ADD_SEALS, seals); }
int clinux_get_seals(int descriptor) { return fcntl(descriptor, F_GET_SEALS); }
