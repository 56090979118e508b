/* Kernels for any processor: SSE2, or NEON. */
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/model.h"

#define LANES 4
#include "../core/compute.h"

const Kernels kernels_portable = {.name = "portable", .panel = PANEL, .encode = encode, .search = search};
