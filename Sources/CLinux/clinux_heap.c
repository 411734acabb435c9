/* How much of the C heap is in use. */
#define _GNU_SOURCE
#include "clinux_heap.h"

#include <malloc.h>

size_t clinux_heap_used(void) {
  struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}
