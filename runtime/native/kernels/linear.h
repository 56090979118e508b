/* Products with a matrix of float32. Included by compute.h. */

/* Memory that `linear` needs: none. */
static void *place_scratch(const Model *m, Workspace *w) {
    (void)m, (void)w;
    return NULL;
}

/* One row of x and `panels` panels at once: enough sums side by side to hide how long each addition takes. */
INLINE void wide(const int panels, const float *x, const float *panel, size_t k, const float *first, float *y) {
    Vec sum[4][2];
    UNROLL
    for (int p = 0; p < panels; p++) {
        sum[p][0] = first ? load(first + p * PANEL) : (Vec){0};
        sum[p][1] = first ? load(first + p * PANEL + LANES) : (Vec){0};
    }
    for (size_t i = 0; i < k; i++, panel += PANEL) {
        UNROLL
        for (int p = 0; p < panels; p++) {
            sum[p][0] += x[i] * load(panel + (size_t)p * k * PANEL);
            sum[p][1] += x[i] * load(panel + (size_t)p * k * PANEL + LANES);
        }
    }
    UNROLL
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

/* y [rows, n] = first [n] (or zero) + x [rows, k] @ w; rows of y, and `first`, are padded to a multiple of PAD. */
static void linear(const Linear *w, size_t rows, const float *x, size_t ldx, const float *first, float *y, size_t ldy,
                   void *scratch) {
    (void)scratch;
    if (rows == 1) {
        one_row(w, x, first, y);
        return;
    }
    for (size_t p = 0; p < padded(w->n); p += PANEL)
        product(rows, x, ldx, w->panels + p * w->k, PANEL, w->k, first ? first + p : 0, y + p, ldy);
}
