/* The package manager wants one source file in a C target. */
#include "clinux_epoll.h"
