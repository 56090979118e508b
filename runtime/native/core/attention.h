/* Rotary positions and causal attention of one head. Included by compute.h. */

#define FEW_QUERIES 4 /* fewer are computed one by one; laying keys and values out as panels pays from here on */

/* Rotate one head [d] to its position; y may be x. */
static void rotate(const Model *m, const float *x, size_t position, float *y) {
    size_t half = m->head_dim / 2, i = 0;
    const float *cos = m->cos + position * m->head_dim, *sin = m->sin + position * m->head_dim;
    for (; i + LANES <= half; i += LANES) {
        Vec low = load(x + i), high = load(x + i + half);
        store(y + i, low * load(cos + i) - high * load(sin + i));
        store(y + i + half, high * load(cos + i + half) + low * load(sin + i + half));
    }
    for (; i < half; i++) {
        float low = x[i], high = x[i + half];
        y[i] = low * cos[i] - high * sin[i];
        y[i + half] = high * cos[i + half] + low * sin[i + half];
    }
}

/* p [n] = softmax(p), then zeros up to `end`, a multiple of LANES. What p holds behind n must be set, and is not used. */
static void softmax(float *p, size_t n, size_t end) {
    Ints lane = lane_numbers();
    Vec peaks = all(-INFINITY), sum = {0};
    size_t full = n / LANES * LANES, i;
    Ints rest = lane < (int32_t)(n - full); /* of the vector that n ends in */
    for (i = 0; i < full; i += LANES) peaks = larger(peaks, load(p + i));
    if (full < n) peaks = larger(peaks, choose(rest, load(p + full), peaks));
    float peak = largest_of(peaks);
    for (i = 0; i < n; i += LANES) {
        Vec e = exponential(load(p + i) - peak);
        if (i == full) e = choose(rest, e, (Vec){0});
        store(p + i, e);
        sum += e;
    }
    Vec scale = all(1.0f / sum_of(sum));
    for (size_t k = 0; k < n; k += LANES) store(p + k, load(p + k) * scale);
    for (; i < end; i += LANES) store(p + i, (Vec){0});
}

/* Lay keys [S, d] out as panels of columns [d, ld_p], and values [S, d] as rows of panels, both padded with zeros. */
static void lay_out(const float *keys, const float *values, size_t tokens, size_t width, size_t ld_p, float *key_panels,
                    float *value_panels) {
    size_t ld_v = padded(width);
    if (tokens < ld_p) memset(key_panels, 0, width * ld_p * sizeof(float));
    for (size_t s = 0; s < tokens; s++)
        for (size_t i = 0; i < width; i++) key_panels[i * ld_p + s] = keys[s * width + i];
    if (width < ld_v) memset(value_panels, 0, tokens * ld_v * sizeof(float));
    for (size_t s = 0; s < tokens; s++) memcpy(value_panels + s * ld_v, values + s * width, width * sizeof(float));
}

/* Arrays of `attend`. */
typedef struct {
    float *p, *out;                    /* [rows, padded S], [rows, padded d] */
    float *key_panels, *value_panels; /* [d, padded S], [S, padded d] */
} Attention;

static Attention place_attention(size_t rows, size_t tokens, size_t width, Workspace *w) {
    Attention a;
    a.p = carve_floats(w, rows, padded(tokens));
    a.out = carve_floats(w, rows, padded(width));
    a.key_panels = carve_floats(w, width, padded(tokens));
    a.value_panels = carve_floats(w, tokens, padded(width));
    return a;
}

/* mixed [rows, d] = softmax(queries @ keysᵀ) @ values: of rotated, scaled queries [rows, d], the last `rows` of `tokens`
   positions; keys and values [tokens, d]. `ld` numbers lie between rows of queries, and of `mixed`. */
static void attend(const float *queries, size_t ld, size_t rows, const float *keys, const float *values, size_t tokens,
                   size_t width, const Attention *a, float *mixed) {
    size_t ld_p = padded(tokens), ld_v = padded(width);
    if (rows < FEW_QUERIES) {
        for (size_t r = 0; r < rows; r++) {
            size_t known = tokens - rows + r + 1, end = (known + LANES - 1) / LANES * LANES;
            for (size_t s = 0; s < known; s++) a->p[s] = dot(queries + r * ld, keys + s * width, width);
            for (size_t s = known; s < end; s++) a->p[s] = 0.0f;
            softmax(a->p, known, end);
            weigh(a->p, known, values, width, mixed + r * ld);
        }
        return;
    }
    lay_out(keys, values, tokens, width, ld_p, a->key_panels, a->value_panels);
    for (size_t s = 0; s < ld_p; s += PANEL)
        product(rows, queries, ld, a->key_panels + s, ld_p, width, 0, a->p + s, ld_p);
    for (size_t r = 0; r < rows; r++) softmax(a->p + r * ld_p, tokens - rows + r + 1, ld_p);
    for (size_t i = 0; i < ld_v; i += PANEL)
        product(rows, a->p, ld_p, a->value_panels + i, ld_v, tokens, 0, a->out + i, ld_v);
    for (size_t r = 0; r < rows; r++) memcpy(mixed + r * ld, a->out + r * ld_v, width * sizeof(float));
}
