/* Rotary positions and causal attention of one head. Included by compute.h. */

#define FEW 4 /* so many queries pay for laying keys and values out as panels */

/* Rotate one head [d] to its place in the sequence; y may be x. */
static void rotate(const Model *m, const float *x, size_t place, float *y) {
    size_t half = m->head_dim / 2, i = 0;
    const float *cos = m->cos + place * m->head_dim, *sin = m->sin + place * m->head_dim;
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

/* p [n] = softmax(p), then zeros up to `end`, a multiple of LANES. */
static void softmax(float *p, size_t n, size_t end) {
    Ints first = places();
    Vec most = all(-INFINITY), sum = {0};
    size_t whole = n / LANES * LANES, i;
    Ints rest = first < (int32_t)(n - whole); /* of the vector that n ends in */
    for (i = 0; i < whole; i += LANES) most = larger(most, load(p + i));
    if (whole < n) most = larger(most, choose(rest, load(p + whole), most));
    float shift = largest_of(most);
    for (i = 0; i < n; i += LANES) {
        Vec e = exponential(load(p + i) - shift);
        if (i == whole) e = choose(rest, e, (Vec){0});
        store(p + i, e);
        sum += e;
    }
    Vec scale = all(1.0f / sum_of(sum));
    for (size_t k = 0; k < n; k += LANES) store(p + k, load(p + k) * scale);
    for (; i < end; i += LANES) store(p + i, (Vec){0});
}

/* Lay keys [S, d] out as panels of columns [d, ld_p], zeros behind the last, and values [S, d] as rows of panels. */
static void lay_out(const float *keys, const float *values, size_t tokens, size_t width, size_t ld_p, float *key_panels,
                    float *value_panels) {
    for (size_t s = 0; s < ld_p; s++)
        for (size_t i = 0; i < width; i++) key_panels[i * ld_p + s] = s < tokens ? keys[s * width + i] : 0.0f;
    for (size_t s = 0; s < tokens; s++) memcpy(value_panels + s * padded(width), values + s * width, width * sizeof(float));
}

/* Numbers that `attend` is to be lent. */
static size_t attention_room(size_t rows, size_t tokens, size_t width) {
    return rows * (padded(tokens) + padded(width)) + width * padded(tokens) + tokens * padded(width);
}

/* Answers [rows, d], with `ld` between rows as between the queries: rotated, scaled queries [rows, d], the last `rows` of
   `tokens` places; keys and values [tokens, d]. */
static void attend(const float *queries, size_t ld, size_t rows, const float *keys, const float *values, size_t tokens,
                   size_t width, float *lent, float *answers) {
    size_t ld_p = padded(tokens), ld_v = padded(width);
    float *p = lent, *out = p + rows * ld_p, *key_panels = out + rows * ld_v, *value_panels = key_panels + width * ld_p;
    if (rows < FEW) {
        for (size_t r = 0; r < rows; r++) {
            size_t known = tokens - rows + r + 1;
            for (size_t s = 0; s < known; s++) p[s] = dot(queries + r * ld, keys + s * width, width);
            softmax(p, known, (known + LANES - 1) / LANES * LANES);
            weigh(p, known, values, width, answers + r * ld);
        }
        return;
    }
    lay_out(keys, values, tokens, width, ld_p, key_panels, value_panels);
    for (size_t s = 0; s < ld_p; s += PANEL)
        product(rows, queries, ld, key_panels + s, ld_p, width, 0, p + s, ld_p);
    for (size_t r = 0; r < rows; r++) softmax(p + r * ld_p, tokens - rows + r + 1, ld_p);
    for (size_t i = 0; i < ld_v; i += PANEL)
        product(rows, p, ld_p, value_panels + i, ld_v, tokens, 0, out + i, ld_v);
    for (size_t r = 0; r < rows; r++) memcpy(answers + r * ld, out + r * ld_v, width * sizeof(float));
}
