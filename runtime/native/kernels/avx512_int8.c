/* Kernels for x86-64 with avx512f, avx512vl, avx512dq, avx512bw, avx512vnni, avx2, fma, products in int8. */
#if defined(__x86_64__)
#include <immintrin.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/model.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx512vnni,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx512vnni,avx2,fma")
#endif

#define LANES 16
#define INT8_PRODUCTS
#include "../core/compute.h"

const Kernels kernels_avx512_int8 = {.name = "avx512-int8", .panel = PANEL, .int8 = 1, .encode = encode, .search = search};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
