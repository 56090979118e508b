/* Which kernels this processor can run. */
#include "../core/model.h"

#if defined(__aarch64__)
#if defined(__linux__) /* Android, too */
#include <sys/auxv.h>
#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1 << 20)
#endif
static int has_dotprod(void) { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
#elif defined(__APPLE__)
#include <sys/sysctl.h>
static int has_dotprod(void) {
    int has = 0;
    size_t size = sizeof has;
    return sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, NULL, 0) == 0 && has;
}
#elif defined(_WIN32)
#include <windows.h>
#ifndef PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE
#define PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE 43
#endif
static int has_dotprod(void) { return IsProcessorFeaturePresent(PF_ARM_V82_DP_INSTRUCTIONS_AVAILABLE) != 0; }
#else
static int has_dotprod(void) { return 0; } /* nothing to ask */
#endif
#endif

size_t available_kernels(const Kernels *list[KERNELS_LIMIT]) {
    size_t n = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    int wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (wide) list[n++] = &kernels_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) list[n++] = &kernels_avx2;
#endif
    list[n++] = &kernels_portable;
#if defined(__x86_64__)
    if (wide && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni")) list[n++] = &kernels_avx512_int8;
#elif defined(__aarch64__)
    if (has_dotprod()) list[n++] = &kernels_neon_int8;
#endif
    return n;
}
