/* Products with an int8 matrix, by the dot products of four bytes that newer processors have. Included by compute.h in place
   of linear.h.

   A column holds int8 and has a scale. Each row of x is rounded to [−127, 127] by a scale of its own, 127 for its largest
   number. Where the processor multiplies unsigned bytes by signed ones (x86), 128 is added to x, and `offset` subtracts its
   part of the product. Panels hold four rows' bytes of a column side by side. */
#define MAX_DOT_ROWS 12
#define ROWS_AT_ONCE 24 /* rounded together: as many as most calls have, so that a call reads the weights once */

typedef uint8_t Bytes __attribute__((vector_size(LANES), aligned(1), may_alias));
typedef uint32_t Four __attribute__((may_alias, aligned(1)));

INLINE Ints load_ints(const void *from) { return *(const Ints *)from; }

/* sum + Σ of four products of bytes of a and b in each lane. */
#if defined(__aarch64__)
#define ZERO_BYTE 0
INLINE Ints dots(Ints sum, uint32_t a, Ints b) {
    return (Ints)vdotq_s32((int32x4_t)sum, (int8x16_t)b, vreinterpretq_s8_u32(vdupq_n_u32(a)));
}
#else
#define ZERO_BYTE 128
INLINE Ints dots(Ints sum, uint32_t a, Ints b) {
    return (Ints)_mm512_dpbusd_epi32((__m512i)sum, _mm512_set1_epi32((int)a), (__m512i)b);
}
#endif

INLINE Vec magnitude(Vec v) { return (Vec)((Ints)v & 0x7fffffff); }
INLINE Bytes bytes_of(Vec v) { return __builtin_convertvector((Ints)v & 0xff, Bytes); }

/* Round rows of x [rows, k] to bytes [rows, ldb], and give each one's scale. */
INLINE void to_bytes(size_t rows, size_t k, const float *restrict x, size_t ldx, uint8_t *restrict bytes, size_t ldb,
                     float *restrict scale) {
    for (size_t r = 0; r < rows; r++) {
        const float *from = x + r * ldx;
        size_t full = k / LANES * LANES, i;
        float rest[LANES] = {0}; /* behind the full vectors */
        memcpy(rest, from + full, (k - full) * sizeof(float));
        Vec peaks = magnitude(load(rest));
        for (i = 0; i < full; i += LANES) peaks = larger(peaks, magnitude(load(from + i)));
        float peak = largest_of(peaks);
        scale[r] = peak / 127.0f;
        float inverse = peak > 0.0f ? 127.0f / peak : 0.0f;
        const float shift = 12582912.0f + ZERO_BYTE; /* 1.5 · 2^23: adding it rounds; the low byte is then the number */
        uint8_t *to = bytes + r * ldb;
        for (i = 0; i < full; i += LANES) *(Bytes *)(to + i) = bytes_of(load(from + i) * inverse + shift);
        Bytes last = bytes_of(load(rest) * inverse + shift);
        memcpy(to + full, &last, ldb - full);
    }
}

/* y [rows, panels · PANEL] = first + x @ w, for numbers of rows and panels known to the compiler. */
INLINE void dot_tile(const int rows, const int panels, const uint8_t *x, size_t ldb, const float *scale, const Linear *w,
                 size_t column, const float *first, float *y, size_t ldy) {
    size_t steps = (w->k + 3) / 4, stride = steps * 4 * PANEL;
    const int8_t *panel = w->bytes + column * steps * 4;
    Ints sum[MAX_DOT_ROWS][8];
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int p = 0; p < 2 * panels; p++) sum[r][p] = ZERO_BYTE ? load_ints(w->offset + column + p * LANES) : (Ints){0};
    for (size_t i = 0; i < steps; i++, panel += 4 * PANEL) {
        Ints four_rows[8];
        UNROLL
        for (int p = 0; p < 2 * panels; p++) four_rows[p] = load_ints(panel + (size_t)(p / 2) * stride + p % 2 * 4 * LANES);
        UNROLL
        for (int r = 0; r < rows; r++) {
            uint32_t four = *(const Four *)(x + (size_t)r * ldb + 4 * i);
            UNROLL
            for (int p = 0; p < 2 * panels; p++) sum[r][p] = dots(sum[r][p], four, four_rows[p]);
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++)
        UNROLL
        for (int p = 0; p < 2 * panels; p++) {
            Vec value = __builtin_convertvector(sum[r][p], Vec) * (load(w->scale + column + p * LANES) * scale[r]);
            if (first) value += load(first + column + p * LANES);
            store(y + (size_t)r * ldy + column + p * LANES, value);
        }
}

#define ROWS(n) \
    case n: dot_tile(n, 1, from, ldb, scale + done, w, column, first, y + done * ldy, ldy); break

static void few_rows(const Linear *w, size_t rows, const uint8_t *bytes, size_t ldb, const float *scale, const float *first,
                     float *y, size_t ldy) {
    size_t column = 0;
    if (rows == 1) /* enough sums side by side to hide how long each takes */
        for (; column + 4 * PANEL <= padded(w->n); column += 4 * PANEL)
            dot_tile(1, 4, bytes, ldb, scale, w, column, first, y, ldy);
    for (; column < padded(w->n); column += PANEL) {
        size_t done = 0;
        for (size_t groups = (rows + MAX_DOT_ROWS - 1) / MAX_DOT_ROWS; groups; groups--) {
            size_t count = (rows - done) / groups;
            const uint8_t *from = bytes + done * ldb;
            switch (count) {
                ROWS(1); ROWS(2); ROWS(3); ROWS(4); ROWS(5); ROWS(6); ROWS(7); ROWS(8); ROWS(9); ROWS(10); ROWS(11); ROWS(12);
            }
            done += count;
        }
    }
}
#undef ROWS

/* Memory that `linear` needs: bytes of ROWS_AT_ONCE rows of the widest x. */
static void *place_scratch(const Model *m, Workspace *w) {
    size_t widths[] = {m->heads * m->head_dim, m->ffn, m->middle, m->pair_dim}, widest = m->dim;
    for (size_t i = 0; i < sizeof widths / sizeof *widths; i++) widest = widths[i] > widest ? widths[i] : widest;
    return carve(w, ROWS_AT_ONCE, widest + 3, 1);
}

/* y [rows, n] = first [n] (or zero) + x [rows, k] @ w; rows of y, and `first`, are padded to a multiple of PAD. */
static void linear(const Linear *w, size_t rows, const float *x, size_t ldx, const float *first, float *y, size_t ldy,
                   void *scratch) {
    uint8_t *bytes = scratch;
    float scale[ROWS_AT_ONCE];
    size_t ldb = (w->k + 3) / 4 * 4;
    for (size_t done = 0, count; done < rows; done += count) {
        count = rows - done < ROWS_AT_ONCE ? rows - done : ROWS_AT_ONCE;
        to_bytes(count, w->k, x + done * ldx, ldx, bytes, ldb, scale);
        few_rows(w, count, bytes, ldb, scale, first, y + done * ldy, ldy);
    }
}
