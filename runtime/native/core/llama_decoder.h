/* A Llama's scores of codes: each beam's codes are read as tokens, after a history whose keys and values all beams share.
   Included by compute.h. */

#define FIRST_READ 24 /* beams that are read together at first: each block reads all weights, so few blocks are best */
#define BLOCK_READ 8  /* and then, while further beams may matter */

typedef struct {
    Activations a;       /* of a block of beams */
    size_t tokens, ld_p; /* S of the history; numbers in a row of `p` */
    size_t beam;         /* B, all beams */
    const float *hidden; /* [D] of the history */
    float *keys, *values; /* of the history, as panels: [layers, G, d, ld_p], [layers, G, S, padded d] */
    float *own;           /* of the beams' codes: [layers, L, B, 2·G·d], keys rotated */
    float *p, *out;       /* of a block: [FIRST_READ, ld_p], [FIRST_READ, padded d] */
    float *logits;        /* of a block: [FIRST_READ, V], rows padded */
} LlamaDecoder;

static LlamaDecoder place_llama_decoder(const Model *m, size_t tokens, size_t beam, Workspace *w) {
    size_t groups = m->layers * m->kv_heads, width = m->head_dim;
    LlamaDecoder d = {.tokens = tokens, .ld_p = padded(tokens + m->levels), .beam = beam};
    d.keys = carve_floats(w, groups, size_times(width, d.ld_p));
    d.values = carve_floats(w, groups, size_times(tokens, padded(width)));
    d.own = carve_floats(w, size_times(groups, m->levels), size_times(beam, 2 * width));
    d.p = carve_floats(w, FIRST_READ, d.ld_p);
    d.out = carve_floats(w, FIRST_READ, padded(width));
    d.logits = carve_floats(w, FIRST_READ, padded(m->vocab));
    d.a = place_activations(m, FIRST_READ, w);
    return d;
}

/* Lay out what all beams share: the history's cache [layers, 2, G, S, d]. */
static void begin_llama_decoder(const Model *m, const float *hidden, const float *cache, LlamaDecoder *d) {
    size_t width = m->head_dim, tokens = d->tokens;
    d->hidden = hidden;
    memset(d->a.mixed, 0, FIRST_READ * padded(m->heads * width) * sizeof(float));
    for (size_t i = 0; i < m->layers * m->kv_heads; i++) {
        size_t layer = i / m->kv_heads, group = i % m->kv_heads;
        const float *keys = cache + (2 * layer * m->kv_heads + group) * tokens * width;
        const float *values = keys + m->kv_heads * width * tokens;
        lay_out(keys, values, tokens, width, d->ld_p, d->keys + i * width * d->ld_p, d->values + i * tokens * padded(width));
    }
}

/* Attention of one head for a block of beams, over the history and their own codes up to `level`. */
static void attend_both(const Model *m, const LlamaDecoder *d, size_t layer, size_t head, size_t level, const Beams *b,
                        size_t from, size_t count) {
    size_t width = m->head_dim, ld_q = padded(m->heads * width), ld_v = padded(width), ld_own = 2 * m->kv_heads * width;
    size_t group = head / (m->heads / m->kv_heads), at = layer * m->kv_heads + group, tokens = d->tokens;
    const float *keys = d->keys + at * width * d->ld_p, *values = d->values + at * tokens * ld_v;
    /* of code s of beam i: + (s · B + i) · ld_own */
    const float *own = d->own + layer * m->levels * d->beam * ld_own + group * width;
    for (size_t s = 0; s < d->ld_p; s += PANEL)
        product(count, d->a.q + head * width, ld_q, keys + s, d->ld_p, width, 0, d->p + s, d->ld_p);
    for (size_t i = 0; i < count; i++) {
        const int32_t *ancestor = b->ancestor + (from + i) * m->levels;
        float *p = d->p + i * d->ld_p;
        for (size_t s = 0; s < level; s++)
            p[tokens + s] = dot(d->a.q + i * ld_q + head * width, own + (s * d->beam + (size_t)ancestor[s]) * ld_own, width);
        softmax(p, tokens + level, d->ld_p);
    }
    for (size_t i = 0; i < ld_v; i += PANEL) product(count, d->p, d->ld_p, values + i, ld_v, tokens, 0, d->out + i, ld_v);
    for (size_t i = 0; i < count; i++) {
        const int32_t *ancestor = b->ancestor + (from + i) * m->levels;
        const float *p = d->p + i * d->ld_p + tokens;
        float *out = d->out + i * ld_v;
        for (size_t s = 0; s < level; s++) {
            const float *value = own + (s * d->beam + (size_t)ancestor[s]) * ld_own + m->kv_heads * width;
            for (size_t w = 0; w < width; w++) out[w] += p[s] * value[w];
        }
        memcpy(d->a.mixed + i * ld_q + head * width, out, width * sizeof(float));
    }
}

/* Logits of all tokens, [count, V], after the codes that a block of beams has so far, into d->logits. */
static void read_block(const Model *m, const LlamaDecoder *d, size_t level, const Beams *b, size_t from, size_t count) {
    size_t width = m->head_dim, keys = m->kv_heads * width, ld = padded(m->dim), ld_q = padded(m->heads * width);
    size_t ld_kv = padded(2 * keys), position = d->tokens + level - 1;
    const Activations *a = &d->a;
    if (level == 0) {
        linear(&m->head, 1, d->hidden, 0, m->head_bias, d->logits, 0, a->scratch);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        size_t row = (level - 1) * m->codes + (size_t)b->codes[(from + i) * m->levels + level - 1];
        memcpy(a->x + i * ld, m->place + row * ld, ld * sizeof(float));
    }
    for (size_t layer = 0; layer < m->layers; layer++) {
        const Block *block = &m->block[layer % m->blocks];
        float *own = d->own + ((layer * m->levels + level - 1) * d->beam + from) * 2 * keys;
        normalise(a->x, count, m->dim, ld, m->eps, a->normal);
        linear(&block->kv, count, a->normal, ld, block->kv_bias, a->kv, ld_kv, a->scratch);
        linear(&block->q, count, a->normal, ld, block->q_bias, a->q, ld_q, a->scratch);
        for (size_t i = 0; i < count; i++) {
            for (size_t head = 0; head < m->heads; head++)
                rotate(m, a->q + i * ld_q + head * width, position, a->q + i * ld_q + head * width);
            for (size_t group = 0; group < m->kv_heads; group++)
                rotate(m, a->kv + i * ld_kv + group * width, position, own + i * 2 * keys + group * width);
            memcpy(own + i * 2 * keys + keys, a->kv + i * ld_kv + keys, keys * sizeof(float));
        }
        for (size_t head = 0; head < m->heads; head++) attend_both(m, d, layer, head, level, b, from, count);
        linear(&block->o, count, a->mixed, ld_q, block->o_bias, a->normal, ld, a->scratch);
        add_rows(a->x, a->normal, count * ld);
        feed_forward(m, block, count, a);
    }
    normalise(a->x, count, m->dim, ld, m->eps, a->normal);
    for (size_t i = 0; i < count; i++)
        for (size_t w = 0; w < m->dim; w++) a->normal[i * ld + w] *= m->norm[w];
    linear(&m->head, count, a->normal, ld, m->head_bias, d->logits, padded(m->vocab), a->scratch);
}
