/* Products of a few rows with a panel of PANEL columns. Included by compute.h.

   The sums of up to MAX_ROWS rows of x stay in registers, and the panel's numbers in the nearest cache for all rows. */
#define PANEL (2 * LANES)
#if LANES == 4 && defined(__x86_64__)
#define MAX_ROWS 4 /* 16 registers */
#elif LANES == 8
#define MAX_ROWS 6
#else
#define MAX_ROWS 12 /* 32 registers */
#endif

/* y [rows, PANEL] = first (or zero) + x [rows, k] @ panel [k, PANEL], for a number of rows known to the compiler. */
INLINE void tile(const int rows, const float *x, size_t ldx, const float *panel, size_t ldp, size_t k, const float *first,
                 float *y, size_t ldy) {
    Vec sum[MAX_ROWS][2];
    UNROLL
    for (int r = 0; r < rows; r++) {
        sum[r][0] = first ? load(first) : (Vec){0};
        sum[r][1] = first ? load(first + LANES) : (Vec){0};
    }
    for (size_t i = 0; i < k; i++, panel += ldp) {
        Vec left = load(panel), right = load(panel + LANES);
        UNROLL
        for (int r = 0; r < rows; r++) {
            float value = x[(size_t)r * ldx + i];
            sum[r][0] += value * left;
            sum[r][1] += value * right;
        }
    }
    UNROLL
    for (int r = 0; r < rows; r++) {
        store(y + (size_t)r * ldy, sum[r][0]);
        store(y + (size_t)r * ldy + LANES, sum[r][1]);
    }
}

#define ROWS(n) \
    case n: tile(n, x, ldx, panel, ldp, k, first, y, ldy); break

/* As `tile`, for any number of rows, in groups of about the same size. */
static void product(size_t rows, const float *x, size_t ldx, const float *panel, size_t ldp, size_t k, const float *first,
                    float *y, size_t ldy) {
    size_t groups = (rows + MAX_ROWS - 1) / MAX_ROWS;
    for (; groups; groups--) {
        size_t count = rows / groups;
        switch (count) {
            ROWS(1); ROWS(2); ROWS(3); ROWS(4);
#if MAX_ROWS >= 6
            ROWS(5); ROWS(6);
#endif
#if MAX_ROWS >= 12
            ROWS(7); ROWS(8); ROWS(9); ROWS(10); ROWS(11); ROWS(12);
#endif
        }
        rows -= count;
        x += count * ldx;
        y += count * ldy;
    }
}
#undef ROWS
