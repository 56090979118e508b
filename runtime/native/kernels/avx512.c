/* Kernels for x86-64 with avx512f, avx512vl, avx512dq, avx2, fma. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/model.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,avx512dq,avx2,fma")
#endif

#define LANES 16
#include "../core/compute.h"

const Kernels kernels_avx512 = {.name = "avx512", .panel = PANEL, .encode = encode, .search = search};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
