/* Products with a matrix in panels. Included by compute.h.

   A panel's columns stay in registers for a few rows of x at a time, and its numbers in the nearest cache for all rows. */
#define PANEL (2 * LANES)
#if LANES == 4 && defined(__x86_64__)
#define MOST_ROWS 4 /* 16 registers */
#elif LANES == 8
#define MOST_ROWS 6
#else
#define MOST_ROWS 12 /* 32 registers */
#endif

/* y [rows, PANEL] = first + x [rows, k] @ panel, for a `rows` known when this is compiled. */
INLINE void tile(const int rows, const float *x, size_t ldx, const float *panel, size_t k, const float *first, float *y,
                 size_t ldy) {
    Vec sum[MOST_ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        sum[r][0] = first ? load(first) : (Vec){0};
        sum[r][1] = first ? load(first + LANES) : (Vec){0};
    }
    for (size_t i = 0; i < k; i++, panel += PANEL) {
        Vec left = load(panel), right = load(panel + LANES);
#pragma GCC unroll 12
        for (int r = 0; r < rows; r++) {
            float value = x[(size_t)r * ldx + i];
            sum[r][0] += value * left;
            sum[r][1] += value * right;
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
        store(y + (size_t)r * ldy, sum[r][0]);
        store(y + (size_t)r * ldy + LANES, sum[r][1]);
    }
}

/* One row of x and `panels` panels at once: enough sums side by side to hide how long each addition takes. */
INLINE void wide(const int panels, const float *x, const float *panel, size_t k, const float *first, float *y) {
    Vec sum[4][2];
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++) {
        sum[p][0] = first ? load(first + p * PANEL) : (Vec){0};
        sum[p][1] = first ? load(first + p * PANEL + LANES) : (Vec){0};
    }
    for (size_t i = 0; i < k; i++, panel += PANEL) {
#pragma GCC unroll 4
        for (int p = 0; p < panels; p++) {
            sum[p][0] += x[i] * load(panel + (size_t)p * k * PANEL);
            sum[p][1] += x[i] * load(panel + (size_t)p * k * PANEL + LANES);
        }
    }
#pragma GCC unroll 4
    for (int p = 0; p < panels; p++) {
        store(y + p * PANEL, sum[p][0]);
        store(y + p * PANEL + LANES, sum[p][1]);
    }
}

static void one_row(const Linear *w, const float *x, const float *first, float *y) {
    size_t panels = padded(w->n) / PANEL, p = 0;
    for (; p + 4 <= panels; p += 4)
        wide(4, x, w->panels + p * w->k * PANEL, w->k, first ? first + p * PANEL : 0, y + p * PANEL);
    for (; p < panels; p++)
        wide(1, x, w->panels + p * w->k * PANEL, w->k, first ? first + p * PANEL : 0, y + p * PANEL);
}

#define ROWS(n) \
    case n: tile(n, from, ldx, panel, w->k, first ? first + p : 0, to, ldy); break

/* y [rows, n] = first [n] (or zero) + x [rows, k] @ w; rows of y, and `first`, are padded to a multiple of PAD. */
static void linear(const Linear *w, size_t rows, const float *x, size_t ldx, const float *first, float *y, size_t ldy) {
    if (rows == 0) return;
    if (rows == 1) {
        one_row(w, x, first, y);
        return;
    }
    size_t parts = (rows + MOST_ROWS - 1) / MOST_ROWS, least = rows / parts, rest = rows % parts;
    const float *panel = w->panels;
    for (size_t p = 0; p < padded(w->n); p += PANEL, panel += w->k * PANEL) {
        const float *from = x;
        float *to = y + p;
        for (size_t part = 0; part < parts; part++) {
            size_t count = least + (part < rest);
            switch (count) {
                ROWS(1); ROWS(2); ROWS(3); ROWS(4);
#if MOST_ROWS >= 6
                ROWS(5); ROWS(6);
#endif
#if MOST_ROWS >= 12
                ROWS(7); ROWS(8); ROWS(9); ROWS(10); ROWS(11); ROWS(12);
#endif
            }
            from += count * ldx;
            to += count * ldy;
        }
    }
}
#undef ROWS
