/* A student's scores of codes: its decoder of semantic IDs. Included by compute.h. */

#define FIRST_BEAMS 10 /* scored together at first */
#define BLOCK_BEAMS 5  /* and then, while further beams may matter */

/* Add what pairs say of the second code after a first one: logits [K]; query [P]. */
static void add_pairs(const Model *m, size_t first, const float *query, float *logits) {
    size_t ld = padded(m->pair_dim);
    for (int32_t i = m->pair_begin[first]; i < m->pair_begin[first + 1]; i++)
        logits[(size_t)m->pair_keys[i] - first * m->codes] += dot(query, m->pair_table + (size_t)(i + 1) * ld, ld);
}

/* ln Σ e^x over rows padded with −inf. */
static float log_sum(const float *x, size_t n) {
    Vec sum = {0};
    for (size_t i = 0; i < n; i += LANES) sum += exponential(load(x + i));
    float total = sum_of(sum);
    if (total > 1e-20f && total < 1e30f) return logf(total); /* nearly always: no exponential was cut */
    Vec peaks = load(x);
    for (size_t i = LANES; i < n; i += LANES) peaks = larger(peaks, load(x + i));
    float peak = largest_of(peaks);
    sum = (Vec){0};
    for (size_t i = 0; i < n; i += LANES) sum += exponential(load(x + i) - peak);
    return peak + logf(sum_of(sum));
}

typedef struct {
    float *shared; /* [L, M]: what each level's decoder reads of h */
    float *query;  /* [P] */
    float *z;      /* [FIRST_BEAMS, M], rows padded */
    float *pairs;  /* [FIRST_BEAMS, P], rows padded */
    float *logits; /* [FIRST_BEAMS, K], rows padded; before that, what pairs add to z */
    void *scratch; /* of `linear` */
} StudentDecoder;

static StudentDecoder place_student_decoder(const Model *m, Workspace *w) {
    size_t ld = padded(m->middle), ld_k = padded(m->codes);
    StudentDecoder d;
    d.shared = carve_floats(w, 1, padded(m->levels * m->middle));
    d.query = carve_floats(w, 1, padded(m->pair_dim));
    d.z = carve_floats(w, FIRST_BEAMS, ld);
    d.pairs = carve_floats(w, FIRST_BEAMS, padded(m->pair_dim));
    d.logits = carve_floats(w, FIRST_BEAMS, ld > ld_k ? ld : ld_k);
    d.scratch = place_scratch(m, w);
    return d;
}

/* Compute what all levels need of h. */
static void begin_student_decoder(const Model *m, const float *hidden, const StudentDecoder *d) {
    memset(d->z, 0, FIRST_BEAMS * padded(m->middle) * sizeof(float));
    linear(&m->hidden, 1, hidden, 0, m->hidden_bias, d->shared, 0, d->scratch);
    if (m->pair_dim) linear(&m->pair_query, 1, hidden, 0, 0, d->query, 0, d->scratch);
}

/* z [M], before its activation: what a level reads of h, and what a beam's codes add to it. */
static void prefix(const Model *m, size_t level, const float *shared, const int32_t *codes, float *z) {
    size_t ld = padded(m->middle);
    for (size_t i = 0; i < m->middle; i++) z[i] = shared[level * m->middle + i];
    for (size_t e = 0; e < level; e++) add_rows(z, m->level[level].table[e] + (size_t)codes[e] * ld, ld);
}

/* Logits of a level for `count` beams, [count, K], into d->logits. */
static void score_block(const Model *m, const StudentDecoder *d, size_t level, const Beams *b, size_t from, size_t count) {
    const Level *decoder = &m->level[level];
    size_t ld = padded(m->middle), ld_pair = padded(m->pair_dim), ld_k = padded(m->codes);
    float *z = d->z;
    for (size_t i = 0; i < count; i++) prefix(m, level, d->shared, b->codes + (from + i) * m->levels, z + i * ld);
    if (m->pair_dim && level > 1) {
        for (size_t i = 0; i < count; i++) {
            const int32_t *codes = b->codes + (from + i) * m->levels;
            size_t row = pair_row(m, (size_t)codes[0], (size_t)codes[1]);
            memcpy(d->pairs + i * ld_pair, m->pair_table + row * ld_pair, ld_pair * sizeof(float));
        }
        linear(&decoder->pair, count, d->pairs, ld_pair, 0, d->logits, ld, d->scratch);
        add_rows(z, d->logits, count * ld);
    }
    for (size_t i = 0; i < count * ld; i += LANES) store(z + i, silu(load(z + i)));
    linear(&decoder->out, count, z, ld, decoder->out_bias, d->logits, ld_k, d->scratch);
    if (m->pair_dim && level == 1)
        for (size_t i = 0; i < count; i++)
            add_pairs(m, (size_t)b->codes[(from + i) * m->levels], d->query, d->logits + i * ld_k);
}
