/* SPDX-License-Identifier: (BSD-2-Clause OR GPL-2.0-only) */
/* The package manager wants one source file in a C target; compiling it checks the assertions of the header. */
#include "mesh_abi.h"
