/* A Llama's scores of codes: each beam's codes are read, behind a history whose keys and values all share. Included by
   compute.h. */

#define FIRST_READ 24 /* beams that are read at first; a block goes through all weights, so few blocks are best */
#define BLOCK_READ 8  /* and then at a time, as long as they may matter */

typedef struct {
    size_t tokens, ld_p, beam; /* S of the history; room for a row of attention; beams that there is room for */
    const float *hidden;       /* [D] of the history */
    float *keys, *values;      /* of the history, as panels: [layers, G, d, ld_p], [layers, G, S, padded d] */
    float *own;                /* of the codes: [layers, L, B, 2·G·d], keys rotated */
    float *x, *normal, *q, *kv, *mixed, *both, *act, *p, *out, *logits; /* of a block */
} Reading;

static size_t reading_floats(const Model *m, size_t tokens, size_t beam) {
    size_t width = m->head_dim, keys = m->kv_heads * width, ld_p = padded(tokens + m->levels), ld = padded(m->dim);
    size_t shared = m->layers * m->kv_heads * (width * ld_p + tokens * padded(width));
    size_t row = 2 * ld + 2 * padded(m->heads * width) + padded(2 * keys) + padded(2 * m->ffn) + PAD + padded(m->ffn) + PAD + ld_p +
                 padded(width) + padded(m->vocab);
    return shared + m->layers * m->levels * beam * 2 * keys + FIRST_READ * row;
}

static Reading begin_reading(const Model *m, const float *hidden, const float *cache, size_t tokens, size_t beam,
                             float *room) {
    size_t width = m->head_dim, keys = m->kv_heads * width, ld = padded(m->dim), ld_v = padded(width);
    Reading r = {.tokens = tokens, .ld_p = padded(tokens + m->levels), .beam = beam, .hidden = hidden, .keys = room};
    r.values = r.keys + m->layers * m->kv_heads * width * r.ld_p;
    r.own = r.values + m->layers * m->kv_heads * tokens * ld_v;
    r.x = r.own + m->layers * m->levels * beam * 2 * keys;
    r.normal = r.x + FIRST_READ * ld;
    r.q = r.normal + FIRST_READ * ld;
    r.mixed = r.q + FIRST_READ * padded(m->heads * width);
    r.kv = r.mixed + FIRST_READ * padded(m->heads * width);
    r.both = r.kv + FIRST_READ * padded(2 * keys);
    r.act = r.both + FIRST_READ * (padded(2 * m->ffn) + PAD);
    r.p = r.act + FIRST_READ * (padded(m->ffn) + PAD);
    r.out = r.p + FIRST_READ * r.ld_p;
    r.logits = r.out + FIRST_READ * ld_v;
    memset(r.mixed, 0, FIRST_READ * padded(m->heads * width) * sizeof(float));
    for (size_t part = 0; part < m->layers * m->kv_heads; part++) {
        size_t layer = part / m->kv_heads, group = part % m->kv_heads;
        const float *k = cache + (2 * layer * m->kv_heads + group) * tokens * width, *v = k + keys * tokens;
        lay_out(k, v, tokens, width, r.ld_p, r.keys + part * width * r.ld_p, r.values + part * tokens * ld_v);
    }
    return r;
}

/* Attention of one head for a block of beams, over the history and their own codes up to `level`. */
static void attend_both(const Model *m, Reading *r, size_t layer, size_t head, size_t level, const Beams *b, size_t from,
                        size_t count) {
    size_t width = m->head_dim, ld_q = padded(m->heads * width), ld_v = padded(width), two = 2 * m->kv_heads * width;
    size_t group = head / (m->heads / m->kv_heads), part = layer * m->kv_heads + group, tokens = r->tokens;
    const float *k = r->keys + part * width * r->ld_p, *v = r->values + part * tokens * ld_v;
    const float *own = r->own + layer * m->levels * r->beam * two + group * width; /* of code s of beam i: + (s · B + i) · two */
    for (size_t s = 0; s < r->ld_p; s += PANEL)
        product(count, r->q + head * width, ld_q, k + s, r->ld_p, width, 0, r->p + s, r->ld_p);
    for (size_t i = 0; i < count; i++) {
        const int32_t *line = b->line + (from + i) * m->levels;
        float *p = r->p + i * r->ld_p;
        for (size_t s = 0; s < level; s++)
            p[tokens + s] = dot(r->q + i * ld_q + head * width, own + (s * r->beam + (size_t)line[s]) * two, width);
        softmax(p, tokens + level, r->ld_p);
    }
    for (size_t i = 0; i < ld_v; i += PANEL) product(count, r->p, r->ld_p, v + i, ld_v, tokens, 0, r->out + i, ld_v);
    for (size_t i = 0; i < count; i++) {
        const int32_t *line = b->line + (from + i) * m->levels;
        float *out = r->out + i * ld_v;
        for (size_t s = 0; s < level; s++) {
            const float *value = own + (s * r->beam + (size_t)line[s]) * two + m->kv_heads * width;
            for (size_t w = 0; w < width; w++) out[w] += r->p[i * r->ld_p + tokens + s] * value[w];
        }
        memcpy(r->mixed + i * ld_q + head * width, out, width * sizeof(float));
    }
}

/* Logits of all tokens, [count, V], after the codes that a block of beams has so far. */
static void read_block(const Model *m, Reading *r, size_t level, const Beams *b, size_t from, size_t count) {
    size_t width = m->head_dim, keys = m->kv_heads * width, ld = padded(m->dim), ld_q = padded(m->heads * width);
    size_t ld_kv = padded(2 * keys), place = r->tokens + level - 1;
    if (level == 0) {
        linear(&m->head, 1, r->hidden, 0, m->head_bias, r->logits, 0);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        size_t row = (level - 1) * m->codes + (size_t)b->codes[(from + i) * m->levels + level - 1];
        memcpy(r->x + i * ld, m->place + row * ld, ld * sizeof(float));
    }
    for (size_t layer = 0; layer < m->layers; layer++) {
        const Block *block = &m->block[layer % m->blocks];
        float *own = r->own + ((layer * m->levels + level - 1) * r->beam + from) * 2 * keys;
        normalise(r->x, count, m->dim, ld, m->eps, r->normal);
        linear(&block->kv, count, r->normal, ld, block->kv_bias, r->kv, ld_kv);
        linear(&block->q, count, r->normal, ld, block->q_bias, r->q, ld_q);
        for (size_t i = 0; i < count; i++) {
            for (size_t head = 0; head < m->heads; head++)
                rotate(m, r->q + i * ld_q + head * width, place, r->q + i * ld_q + head * width);
            for (size_t group = 0; group < m->kv_heads; group++)
                rotate(m, r->kv + i * ld_kv + group * width, place, own + i * 2 * keys + group * width);
            memcpy(own + i * 2 * keys + keys, r->kv + i * ld_kv + keys, keys * sizeof(float));
        }
        for (size_t head = 0; head < m->heads; head++) attend_both(m, r, layer, head, level, b, from, count);
        linear(&block->o, count, r->mixed, ld_q, block->o_bias, r->normal, ld);
        add_rows(r->x, r->normal, count * ld);
        feed_forward(m, block, count, r->x, r->normal, r->both, r->act);
    }
    normalise(r->x, count, m->dim, ld, m->eps, r->normal);
    for (size_t i = 0; i < count; i++)
        for (size_t w = 0; w < m->dim; w++) r->normal[i * ld + w] *= m->norm[w];
    linear(&m->head, count, r->normal, ld, m->head_bias, r->logits, padded(m->vocab));
}
