/* History → hidden state: Llama blocks over one token an item, or one a code. Included by compute.h. */

/* y [rows, D] = x / √(mean(x²) + ε). The norm's weights are in the matrices behind it. */
static void normalise(const float *x, size_t rows, size_t dim, size_t ld, float eps, float *y) {
    for (size_t r = 0; r < rows; r++, x += ld, y += ld) {
        Vec sum = {0};
        for (size_t i = 0; i < ld; i += LANES) sum += load(x + i) * load(x + i);
        float scale = 1.0f / sqrtf(sum_of(sum) / (float)dim + eps);
        for (size_t i = 0; i < ld; i += LANES) store(y + i, load(x + i) * scale);
    }
}

static void add_rows(float *x, const float *y, size_t count) {
    for (size_t i = 0; i < count; i += LANES) store(x + i, load(x + i) + load(y + i));
}

/* Row of a pair of first codes in the pair table; 0: no item has the pair. */
static size_t pair_row(const Model *m, size_t first, size_t second) {
    int32_t key = (int32_t)(first * m->codes + second);
    size_t low = (size_t)m->pair_begin[first], high = (size_t)m->pair_begin[first + 1];
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (m->pair_keys[middle] < key) low = middle + 1;
        else high = middle;
    }
    return low < (size_t)m->pair_begin[first + 1] && m->pair_keys[low] == key ? low + 1 : 0;
}

/* Arrays of a block of the model, for a number of tokens; each row is padded. */
typedef struct {
    float *x, *normal;    /* [T, D] */
    float *q, *mixed;     /* [T, H·d] */
    float *kv;            /* [T, 2·G·d] */
    float *gate_up, *act; /* [T, 2·F + PAD], [T, F + PAD] */
    void *scratch;        /* of `linear` */
} Activations;

static Activations place_activations(const Model *m, size_t tokens, Workspace *w) {
    Activations a;
    a.x = carve_floats(w, tokens, padded(m->dim));
    a.normal = carve_floats(w, tokens, padded(m->dim));
    a.q = carve_floats(w, tokens, padded(m->heads * m->head_dim));
    a.mixed = carve_floats(w, tokens, padded(m->heads * m->head_dim));
    a.kv = carve_floats(w, tokens, padded(2 * m->kv_heads * m->head_dim));
    a.gate_up = carve_floats(w, tokens, padded(2 * m->ffn) + PAD);
    a.act = carve_floats(w, tokens, padded(m->ffn) + PAD);
    a.scratch = place_scratch(m, w);
    return a;
}

typedef struct {
    Activations a;
    float *pairs; /* [T, P], rows padded */
    Attention attention;
    float *cache; /* [2, G, S, d], of a layer, where the caller does not want it */
} Encoding;

static Encoding place_encoding(const Model *m, size_t fresh, size_t tokens, int own_cache, Workspace *w) {
    Encoding e;
    e.a = place_activations(m, fresh, w);
    e.pairs = carve_floats(w, fresh, padded(m->pair_dim));
    e.attention = place_attention(fresh, tokens, m->head_dim, w);
    e.cache = own_cache ? carve_floats(w, tokens, 2 * m->kv_heads * m->head_dim) : NULL;
    return e;
}

static void embed_llama(const Model *m, const int32_t *history, size_t items, size_t past, float *x) {
    size_t ld = padded(m->dim), first = m->levels * m->codes, lead = past ? 0 : leading_tokens(m, items);
    memcpy(x, m->place + first * ld, lead * ld * sizeof(float));
    for (size_t i = 0; i < items * m->levels; i++) {
        size_t row = i % m->levels * m->codes + (size_t)history[i];
        memcpy(x + (lead + i) * ld, m->place + row * ld, ld * sizeof(float));
    }
}

/* The start, and for each item the sum of its codes' embeddings and of its pair's. */
static void embed_student(const Model *m, const int32_t *history, size_t items, size_t past, const Encoding *e) {
    size_t ld = padded(m->dim), ld_pair = padded(m->pair_dim);
    float *x = e->a.x;
    if (!past) {
        memcpy(x, m->start, ld * sizeof(float));
        x += ld;
    }
    for (size_t n = 0; n < items; n++) {
        const int32_t *sid = history + n * m->levels;
        float *to = x + n * ld;
        if (m->pair_dim && m->levels > 1) {
            size_t row = pair_row(m, (size_t)sid[0], (size_t)sid[1]);
            memcpy(e->pairs + n * ld_pair, m->pair_table + row * ld_pair, ld_pair * sizeof(float));
        }
        memcpy(to, m->embed[0] + (size_t)sid[0] * ld, ld * sizeof(float));
        for (size_t level = 1; level < m->levels; level++) add_rows(to, m->embed[level] + (size_t)sid[level] * ld, ld);
    }
    if (m->pair_dim && m->levels > 1) {
        linear(&m->pair_into, items, e->pairs, ld_pair, 0, e->a.normal, ld, e->a.scratch);
        add_rows(x, e->a.normal, items * ld);
    }
}

/* x [rows, D] += down(silu(gate) · up). */
static void feed_forward(const Model *m, const Block *block, size_t rows, const Activations *a) {
    size_t ld = padded(m->dim), ffn = m->ffn, ld_both = padded(2 * ffn) + PAD, ld_act = padded(ffn) + PAD;
    normalise(a->x, rows, m->dim, ld, m->eps, a->normal);
    linear(&block->gate_up, rows, a->normal, ld, block->gate_up_bias, a->gate_up, ld_both, a->scratch);
    for (size_t r = 0; r < rows; r++) {
        const float *gate = a->gate_up + r * ld_both, *up = gate + ffn;
        float *act = a->act + r * ld_act;
        for (size_t i = 0; i < ffn; i += LANES) store(act + i, silu(load(gate + i)) * load(up + i));
    }
    linear(&block->down, rows, a->act, ld_act, block->down_bias, a->normal, ld, a->scratch);
    add_rows(a->x, a->normal, rows * ld);
}

/* Put the new keys, rotated, and values of kv [T, 2·G·d] behind the old ones in a layer's cache [2, G, S, d]. */
static void remember(const Model *m, const float *kv, size_t ld, const float *past, size_t past_tokens, size_t fresh,
                     float *cache) {
    size_t width = m->head_dim, tokens = past_tokens + fresh;
    for (size_t head = 0; head < 2 * m->kv_heads; head++) {
        float *to = cache + head * tokens * width;
        if (past_tokens) memcpy(to, past + head * past_tokens * width, past_tokens * width * sizeof(float));
        for (size_t t = 0; t < fresh; t++) {
            const float *from = kv + t * ld + head * width;
            size_t position = past_tokens + t;
            if (head < m->kv_heads) rotate(m, from, position, to + position * width);
            else memcpy(to + position * width, from, width * sizeof(float));
        }
    }
}

/* x [rows, D] += o(attention) for the last `rows` of `tokens` tokens, over a layer's cache [2, G, S, d]. */
static void self_attention(const Model *m, const Block *block, size_t rows, size_t tokens, const float *cache,
                           const Encoding *e) {
    const Activations *a = &e->a;
    size_t width = m->head_dim, ld = padded(m->dim), ld_q = padded(m->heads * width), group = m->heads / m->kv_heads;
    linear(&block->q, rows, a->normal, ld, block->q_bias, a->q, ld_q, a->scratch);
    for (size_t r = 0; r < rows; r++)
        for (size_t head = 0; head < m->heads; head++)
            rotate(m, a->q + r * ld_q + head * width, tokens - rows + r, a->q + r * ld_q + head * width);
    for (size_t head = 0; head < m->heads; head++) {
        const float *keys = cache + head / group * tokens * width, *values = keys + m->kv_heads * width * tokens;
        attend(a->q + head * width, ld_q, rows, keys, values, tokens, width, &e->attention, a->mixed + head * width);
    }
    linear(&block->o, rows, a->mixed, ld_q, block->o_bias, a->normal, ld, a->scratch);
    add_rows(a->x, a->normal, rows * ld);
}

static int encode(const Model *m, const int32_t *history, size_t items, const float *past, size_t past_tokens, float *hidden,
                  float *present) {
    size_t fresh = fresh_tokens(m, items, past_tokens), tokens = past_tokens + fresh, keys = 2 * m->kv_heads * m->head_dim;
    size_t ld = padded(m->dim), ld_kv = padded(keys);
    Workspace w = {.base = NULL};
    place_encoding(m, fresh, tokens, !present, &w);
    if (workspace_allocate(&w)) return -1;
    Encoding e = place_encoding(m, fresh, tokens, !present, &w);
    const Activations *a = &e.a;
    if (m->vocab) embed_llama(m, history, items, past_tokens, a->x);
    else embed_student(m, history, items, past_tokens, &e);
    memset(a->mixed, 0, fresh * padded(m->heads * m->head_dim) * sizeof(float));
    for (size_t layer = 0; layer < m->layers; layer++) {
        const Block *block = &m->block[layer % m->blocks];
        float *cache = present ? present + layer * keys * tokens : e.cache;
        normalise(a->x, fresh, m->dim, ld, m->eps, a->normal);
        linear(&block->kv, fresh, a->normal, ld, block->kv_bias, a->kv, ld_kv, a->scratch);
        remember(m, a->kv, ld_kv, past ? past + layer * keys * past_tokens : 0, past_tokens, fresh, cache);
        size_t rows = layer + 1 == m->layers ? 1 : fresh; /* of the last layer, only the newest token is needed */
        if (rows == 1 && fresh > 1) {
            memcpy(a->x, a->x + (fresh - 1) * ld, ld * sizeof(float));
            memcpy(a->normal, a->normal + (fresh - 1) * ld, ld * sizeof(float));
        }
        self_attention(m, block, rows, tokens, cache, &e);
        feed_forward(m, block, rows, a);
    }
    normalise(a->x, 1, m->dim, ld, m->eps, a->normal);
    for (size_t i = 0; i < m->dim; i++) hidden[i] = a->normal[i] * m->norm[i];
    aligned_free(w.base);
    return 0;
}
