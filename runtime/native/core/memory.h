/* Memory: sizes that cannot wrap around, aligned allocations, and the workspace of a call. */
#ifndef POCKETREC_MEMORY_H
#define POCKETREC_MEMORY_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64 /* bytes: a line of the cache, and the widest vector */

/* A product or a sum that does not fit is SIZE_MAX, which no allocation grants. */
static inline size_t size_times(size_t a, size_t b) {
#if defined(__GNUC__)
    size_t out;
    return __builtin_mul_overflow(a, b, &out) ? SIZE_MAX : out;
#else
    return b && a > SIZE_MAX / b ? SIZE_MAX : a * b;
#endif
}

static inline size_t size_plus(size_t a, size_t b) { return a > SIZE_MAX - b ? SIZE_MAX : a + b; }

/* `bytes` of memory that begin at a multiple of ALIGNMENT, zeros or not; NULL where there are none. Free by aligned_free.

   C11's aligned_alloc is missing on Windows and on Android before 9. The address to free is kept in front. */
static inline void *aligned_new(size_t bytes, int zeros) {
    size_t all = size_plus(bytes, ALIGNMENT + sizeof(void *));
    char *base = all > PTRDIFF_MAX ? NULL : zeros ? calloc(all, 1) : malloc(all);
    if (!base) return NULL;
#ifdef POCKETREC_POISON /* signalling NaNs: with traps for invalid operations, arithmetic on memory not yet written ends */
    for (size_t i = 0; !zeros && i + 4 <= all; i += 4) memcpy(base + i, &(uint32_t){0x7fa00000}, 4);
#endif
    char *out = base + sizeof(void *);
    out += (ALIGNMENT - (uintptr_t)out % ALIGNMENT) % ALIGNMENT;
    memcpy(out - sizeof(void *), &base, sizeof(void *));
    return out;
}

static inline void aligned_free(void *memory) {
    void *base = NULL;
    if (memory) memcpy(&base, (char *)memory - sizeof(void *), sizeof(void *));
    free(base);
}

/* A call's memory, in one allocation. A function that carves a call's arrays out of it runs twice: without `base` to count
   the bytes, and again, after workspace_allocate, to place the arrays. */
typedef struct {
    char *base;
    size_t used;
} Workspace;

/* An array of rows · width items of `size` bytes, aligned; NULL while bytes are counted. */
static inline void *carve(Workspace *w, size_t rows, size_t width, size_t size) {
    size_t at = w->used, bytes = size_times(size_times(rows, width), size);
    w->used = size_plus(at, size_plus(bytes, ALIGNMENT - 1)) / ALIGNMENT * ALIGNMENT;
    return w->base ? w->base + at : NULL;
}

static inline float *carve_floats(Workspace *w, size_t rows, size_t width) { return carve(w, rows, width, sizeof(float)); }

static inline int32_t *carve_ints(Workspace *w, size_t rows, size_t width) { return carve(w, rows, width, sizeof(int32_t)); }

/* Allocate what was counted: 0, or −1 where memory is short. */
static inline int workspace_allocate(Workspace *w) {
    w->base = aligned_new(w->used, 0);
    w->used = 0;
    return w->base ? 0 : -1;
}

#endif
