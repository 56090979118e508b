/* Kernels for aarch64 with dotprod, products in int8. */
#if defined(__aarch64__)
#if defined(__clang__) && !defined(__ARM_FEATURE_DOTPROD)
#define __ARM_FEATURE_DOTPROD 1 /* without it, arm_neon.h of Clang 15 and earlier does not declare vdotq_s32 */
#endif
#include <arm_neon.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../core/model.h"

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#define LANES 4
#define INT8_PRODUCTS
#include "../core/compute.h"

const Kernels kernels_neon_int8 = {
    .name = "neon-int8", .panel = PANEL, .int8 = 1, .encode = encode, .search = search};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
