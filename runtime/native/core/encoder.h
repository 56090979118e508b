/* History → hidden state: Llama blocks over one token an item, or one a code. Included by compute.h. */

/* y [rows, D] = x / √(mean(x²) + ε); norm weights lie in the matrices that come next. */
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

/* Row of a pair of first codes in the pair table; 0: of no item. */
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

/* x [T, D], rows padded with zeros: of a student the start, and sums of code embeddings and of their pairs'. */
static void embed(const Model *m, const int32_t *history, size_t items, size_t before, float *x, float *pairs, float *spare) {
    size_t ld = padded(m->dim), ld_pair = padded(m->pair_dim);
    if (m->vocab) {
        size_t first = m->levels * m->codes, lead = before ? 0 : leading(m, items);
        memcpy(x, m->place + first * ld, lead * ld * sizeof(float));
        for (size_t i = 0; i < items * m->levels; i++) {
            size_t row = i % m->levels * m->codes + (size_t)history[i];
            memcpy(x + (lead + i) * ld, m->place + row * ld, ld * sizeof(float));
        }
        return;
    }
    if (!before) {
        memcpy(x, m->start, ld * sizeof(float));
        x += ld;
    }
    for (size_t n = 0; n < items; n++) {
        const int32_t *sid = history + n * m->levels;
        float *to = x + n * ld;
        if (m->pair_dim && m->levels > 1) {
            size_t row = pair_row(m, (size_t)sid[0], (size_t)sid[1]);
            memcpy(pairs + n * ld_pair, m->pair_table + row * ld_pair, ld_pair * sizeof(float));
        }
        memcpy(to, m->embed[0] + (size_t)sid[0] * ld, ld * sizeof(float));
        for (size_t level = 1; level < m->levels; level++) {
            const float *from = m->embed[level] + (size_t)sid[level] * ld;
            for (size_t i = 0; i < ld; i += LANES) store(to + i, load(to + i) + load(from + i));
        }
    }
    if (m->pair_dim && m->levels > 1) {
        linear(&m->pair_into, items, pairs, ld_pair, 0, spare, ld);
        add_rows(x, spare, items * ld);
    }
}

/* x [rows, D] += down(silu(gate) · up). */
static void feed_forward(const Model *m, const Block *block, size_t rows, float *x, float *normal, float *both, float *act) {
    size_t ld = padded(m->dim), ld_both = padded(2 * m->ffn) + PAD, ld_act = padded(m->ffn) + PAD;
    normalise(x, rows, m->dim, ld, m->eps, normal);
    linear(&block->gate_up, rows, normal, ld, block->gate_up_bias, both, ld_both);
    for (size_t r = 0; r < rows; r++)
        for (size_t i = 0; i < m->ffn; i += LANES)
            store(act + r * ld_act + i, silu(load(both + r * ld_both + i)) * load(both + r * ld_both + m->ffn + i));
    linear(&block->down, rows, act, ld_act, block->down_bias, normal, ld);
    add_rows(x, normal, rows * ld);
}

/* Put the new keys, rotated, and values of [T, 2·G·d] behind the old ones in a layer's cache [2, G, S, d]. */
static void remember(const Model *m, const float *kv, size_t ld, const float *past, size_t before, size_t fresh, float *cache) {
    size_t width = m->head_dim, tokens = before + fresh;
    for (size_t part = 0; part < 2 * m->kv_heads; part++) {
        float *to = cache + part * tokens * width;
        if (before) memcpy(to, past + part * before * width, before * width * sizeof(float));
        for (size_t t = 0; t < fresh; t++) {
            const float *from = kv + t * ld + part * width;
            size_t place = before + t;
            if (part < m->kv_heads)
                rotate(m, from, place, to + place * width);
            else
                memcpy(to + place * width, from, width * sizeof(float));
        }
    }
}

static int encode(const Model *m, const int32_t *history, size_t items, const float *past, size_t before, float *hidden,
                  float *present) {
    size_t width = m->head_dim, queries = m->heads * width, keys = m->kv_heads * width, shared = m->heads / m->kv_heads;
    size_t fresh = fresh_tokens(m, items, before), tokens = before + fresh, layer_cache = 2 * keys * tokens;
    size_t ld = padded(m->dim), ld_q = padded(queries), ld_kv = padded(2 * keys), ld_both = padded(2 * m->ffn) + PAD;
    size_t each = 2 * ld + 2 * ld_q + ld_kv + ld_both + padded(m->ffn) + PAD + padded(m->pair_dim);
    size_t floats = fresh * each + attention_room(fresh, tokens, width) + (present ? 0 : layer_cache);
    void *room = malloc(floats * sizeof(float) + 64);
    if (!room) return -1;
    float *x = aligned(room), *normal = x + fresh * ld, *q = normal + fresh * ld, *mixed = q + fresh * ld_q;
    float *kv = mixed + fresh * ld_q, *both = kv + fresh * ld_kv, *act = both + fresh * ld_both;
    float *pairs = act + fresh * (padded(m->ffn) + PAD), *lent = pairs + fresh * padded(m->pair_dim);
    float *own = lent + attention_room(fresh, tokens, width);

    embed(m, history, items, before, x, pairs, normal);
    memset(mixed, 0, fresh * ld_q * sizeof(float));
    for (size_t layer = 0; layer < m->layers; layer++) {
        const Block *block = &m->block[layer % m->blocks];
        float *cache = present ? present + layer * layer_cache : own;
        normalise(x, fresh, m->dim, ld, m->eps, normal);
        linear(&block->kv, fresh, normal, ld, block->kv_bias, kv, ld_kv);
        remember(m, kv, ld_kv, past ? past + layer * 2 * keys * before : 0, before, fresh, cache);
        size_t rows = layer + 1 == m->layers ? 1 : fresh; /* of the last layer, only the newest token is wanted */
        if (rows == 1 && fresh > 1) {
            memcpy(x, x + (fresh - 1) * ld, ld * sizeof(float));
            memcpy(normal, normal + (fresh - 1) * ld, ld * sizeof(float));
        }
        linear(&block->q, rows, normal, ld, block->q_bias, q, ld_q);
        for (size_t r = 0; r < rows; r++)
            for (size_t head = 0; head < m->heads; head++)
                rotate(m, q + r * ld_q + head * width, tokens - rows + r, q + r * ld_q + head * width);
        for (size_t head = 0; head < m->heads; head++) {
            const float *k = cache + head / shared * tokens * width;
            attend(q + head * width, ld_q, rows, k, k + keys * tokens, tokens, width, lent, mixed + head * width);
        }
        linear(&block->o, rows, mixed, ld_q, block->o_bias, normal, ld);
        add_rows(x, normal, rows * ld);
        feed_forward(m, block, rows, x, normal, both, act);
    }
    normalise(x, 1, m->dim, ld, m->eps, normal);
    for (size_t i = 0; i < m->dim; i++) hidden[i] = normal[i] * m->norm[i];
    free(room);
    return 0;
}
