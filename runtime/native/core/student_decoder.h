/* A student's scores of codes: its decoder of semantic IDs. Included by compute.h. */

#define FIRST_BEAMS 10 /* scored at first */
#define BLOCK_BEAMS 5 /* and then at a time, as long as they may matter */

/* z [M]: what a level of the decoder reads behind a beam's codes, before its activation. */
static void prefix(const Model *m, size_t level, const float *shared, const int32_t *codes, float *z) {
    size_t ld = padded(m->middle);
    for (size_t i = 0; i < m->middle; i++) z[i] = shared[level * m->middle + i];
    for (size_t e = 0; e < level; e++) add_rows(z, m->level[level].table[e] + (size_t)codes[e] * ld, ld);
}

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
    if (total > 1e-20f && total < 1e30f) return logf(total); /* as nearly always: nothing was cut off */
    Vec most = load(x);
    for (size_t i = LANES; i < n; i += LANES) most = larger(most, load(x + i));
    float shift = largest_of(most);
    sum = (Vec){0};
    for (size_t i = 0; i < n; i += LANES) sum += exponential(load(x + i) - shift);
    return shift + logf(sum_of(sum));
}

/* Room for a student's scores of a level. */
typedef struct {
    float *shared, *query, *z, *pairs, *logits;
} Decoding;

static size_t decoding_floats(const Model *m) {
    size_t ld = padded(m->middle), ld_k = padded(m->codes);
    return padded(m->levels * m->middle) + padded(m->pair_dim) +
           FIRST_BEAMS * (ld + padded(m->pair_dim) + (ld > ld_k ? ld : ld_k));
}

/* What all levels of the decoder need of h. */
static Decoding begin_decoding(const Model *m, const float *hidden, float *room) {
    Decoding d = {.shared = room};
    d.query = d.shared + padded(m->levels * m->middle);
    d.z = d.query + padded(m->pair_dim);
    d.pairs = d.z + FIRST_BEAMS * padded(m->middle);
    d.logits = d.pairs + FIRST_BEAMS * padded(m->pair_dim);
    memset(d.z, 0, FIRST_BEAMS * padded(m->middle) * sizeof(float));
    linear(&m->hidden, 1, hidden, 0, m->hidden_bias, d.shared, 0);
    if (m->pair_dim) linear(&m->pair_query, 1, hidden, 0, 0, d.query, 0);
    return d;
}

/* Logits of a level for `count` beams, [count, K], into d->logits. */
static void score_block(const Model *m, Decoding *d, size_t level, const Beams *b, size_t from, size_t count) {
    const Level *decoder = &m->level[level];
    size_t ld = padded(m->middle), ld_pair = padded(m->pair_dim), ld_k = padded(m->codes);
    for (size_t i = 0; i < count; i++) prefix(m, level, d->shared, b->codes + (from + i) * m->levels, d->z + i * ld);
    if (m->pair_dim && level > 1) {
        for (size_t i = 0; i < count; i++) {
            const int32_t *codes = b->codes + (from + i) * m->levels;
            size_t row = pair_row(m, (size_t)codes[0], (size_t)codes[1]);
            memcpy(d->pairs + i * ld_pair, m->pair_table + row * ld_pair, ld_pair * sizeof(float));
        }
        linear(&decoder->pair, count, d->pairs, ld_pair, 0, d->logits, ld);
        add_rows(d->z, d->logits, count * ld);
    }
    for (size_t i = 0; i < count * ld; i += LANES) store(d->z + i, silu(load(d->z + i)));
    linear(&decoder->out, count, d->z, ld, decoder->out_bias, d->logits, ld_k);
    if (m->pair_dim && level == 1)
        for (size_t i = 0; i < count; i++)
            add_pairs(m, (size_t)b->codes[(from + i) * m->levels], d->query, d->logits + i * ld_k);
}
