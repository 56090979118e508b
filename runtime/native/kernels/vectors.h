/* Arithmetic on LANES numbers at once, in the vector extensions of GCC and Clang, which the compiler turns into SSE, AVX or
   NEON. Included by compute.h. */
#include <math.h>
#include <string.h>

/* In front of a loop with a small number of rounds known to the compiler, so that its arrays are kept in registers. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

#define INLINE static inline __attribute__((always_inline))

typedef float Vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Ints __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint32_t Bits __attribute__((vector_size(4 * LANES), aligned(4), may_alias)); /* for shifts and sums that wrap */

INLINE Vec load(const float *from) { return *(const Vec *)from; }
INLINE void store(float *to, Vec v) { *(Vec *)to = v; }
INLINE Vec all(float x) { return x - (Vec){0}; }
INLINE Vec choose(Ints mask, Vec yes, Vec no) { return (Vec)((mask & (Ints)yes) | (~mask & (Ints)no)); }

/* The larger, or smaller, number of each lane; b's where one is NaN. GCC does not make them of `choose`. */
#if defined(__AVX512F__) && LANES == 16
INLINE Vec larger(Vec a, Vec b) { return (Vec)_mm512_max_ps((__m512)a, (__m512)b); }
INLINE Vec smaller(Vec a, Vec b) { return (Vec)_mm512_min_ps((__m512)a, (__m512)b); }
#elif defined(__AVX2__) && LANES == 8
INLINE Vec larger(Vec a, Vec b) { return (Vec)_mm256_max_ps((__m256)a, (__m256)b); }
INLINE Vec smaller(Vec a, Vec b) { return (Vec)_mm256_min_ps((__m256)a, (__m256)b); }
#elif defined(__x86_64__) && LANES == 4
INLINE Vec larger(Vec a, Vec b) { return (Vec)_mm_max_ps((__m128)a, (__m128)b); }
INLINE Vec smaller(Vec a, Vec b) { return (Vec)_mm_min_ps((__m128)a, (__m128)b); }
#else
INLINE Vec larger(Vec a, Vec b) { return choose(a > b, a, b); }
INLINE Vec smaller(Vec a, Vec b) { return choose(a < b, a, b); }
#endif

/* 0, 1, 2, … */
INLINE Ints lane_numbers(void) {
    Ints out;
    for (int i = 0; i < LANES; i++) out[i] = i;
    return out;
}

/* v, each lane swapped with the lane whose number differs by the bit `by`. */
#if defined(__clang__)
#define SWAPPED(v, by) swapped_##by(v)
#if LANES == 16
INLINE Vec swapped_8(Vec v) { return __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7); }
INLINE Vec swapped_4(Vec v) { return __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11); }
INLINE Vec swapped_2(Vec v) { return __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13); }
INLINE Vec swapped_1(Vec v) { return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14); }
#elif LANES == 8
INLINE Vec swapped_4(Vec v) { return __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3); }
INLINE Vec swapped_2(Vec v) { return __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5); }
INLINE Vec swapped_1(Vec v) { return __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6); }
#else
INLINE Vec swapped_2(Vec v) { return __builtin_shufflevector(v, v, 2, 3, 0, 1); }
INLINE Vec swapped_1(Vec v) { return __builtin_shufflevector(v, v, 1, 0, 3, 2); }
#endif
#else
#define SWAPPED(v, by) __builtin_shuffle(v, lane_numbers() ^ by)
#endif

INLINE float sum_of(Vec v) {
#if LANES == 16
    v += SWAPPED(v, 8);
#endif
#if LANES >= 8
    v += SWAPPED(v, 4);
#endif
    v += SWAPPED(v, 2);
    v += SWAPPED(v, 1);
    return v[0];
}

INLINE float largest_of(Vec v) {
#if LANES == 16
    v = larger(v, SWAPPED(v, 8));
#endif
#if LANES >= 8
    v = larger(v, SWAPPED(v, 4));
#endif
    v = larger(v, SWAPPED(v, 2));
    v = larger(v, SWAPPED(v, 1));
    return v[0];
}

/* e^x to 2 units in the last place, of x cut to [−87, 88]: 2^n · e^r with |r| ≤ ln 2 / 2 (Cody and Waite's reduction, the
   polynomial of Cephes' expf). NaN counts as −87: callers check results that depend on it. */
INLINE Vec exponential(Vec x) {
    x = smaller(larger(x, all(-87.0f)), all(88.0f));
    const float shift = 12582912.0f; /* 1.5 · 2^23: adding it rounds to an integer, which is then in the low bits */
    Vec n = x * 1.44269504f + shift;
    Bits exponent = (Bits)n << 23;
    n -= shift;
    Vec r = x - n * 0.693359375f;
    r = r - n * -2.12194440e-4f;
    Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (Vec)((Bits)p + exponent);
}

INLINE Vec silu(Vec x) { return x / (1.0f + exponential(-x)); }

/* Σ a·b over n numbers. */
INLINE float dot(const float *a, const float *b, size_t n) {
    Vec sum = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) sum += load(a + i) * load(b + i);
    float out = sum_of(sum);
    for (; i < n; i++) out += a[i] * b[i];
    return out;
}

/* y [width] = Σ p[s] · x[s] over the rows of x [n, width]. */
INLINE void weigh(const float *p, size_t n, const float *x, size_t width, float *y) {
    size_t i = 0;
    for (; i + 2 * LANES <= width; i += 2 * LANES) {
        Vec left = {0}, right = {0};
        for (size_t s = 0; s < n; s++) {
            left += p[s] * load(x + s * width + i);
            right += p[s] * load(x + s * width + i + LANES);
        }
        store(y + i, left);
        store(y + i + LANES, right);
    }
    for (; i < width; i++) {
        y[i] = 0.0f;
        for (size_t s = 0; s < n; s++) y[i] += p[s] * x[s * width + i];
    }
}
