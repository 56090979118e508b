/* Hidden state and trie → the best leaves, by the rule of runtime/beam.py. Included by compute.h. */

typedef struct {
    float score;
    int32_t order; /* candidates stand in the order of their parents' ranks, then of their codes */
    int32_t node, parent;
} Candidate;

/* Tells whether a is worse than b; of equal scores, the later one. */
static inline int worse(Candidate a, Candidate b) {
    return a.score < b.score || (a.score == b.score && a.order > b.order);
}

#define FEW_KEPT 64 /* so many are kept in order; more, as a heap whose first is the worst */

/* Put `new` where the place `at` of a heap of `count` has become free. */
static void sift(Candidate *heap, size_t count, size_t at, Candidate new) {
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && worse(heap[child + 1], heap[child])) child++;
        if (!worse(heap[child], new)) break;
        heap[at] = heap[child];
    }
    heap[at] = new;
}

/* Add `new` to the best of `most`; it is later than all that are there. */
static void keep(Candidate *kept, size_t *count, size_t most, Candidate new) {
    size_t at;
    if (most <= FEW_KEPT) {
        if (*count == most && !worse(kept[most - 1], new)) return;
        at = *count < most ? (*count)++ : most - 1;
        for (; at && kept[at - 1].score < new.score; at--) kept[at] = kept[at - 1];
        kept[at] = new;
        return;
    }
    if (*count == most) {
        if (worse(kept[0], new)) sift(kept, most, 0, new);
        return;
    }
    at = (*count)++;
    for (; at && worse(new, kept[(at - 1) / 2]); at = (at - 1) / 2) kept[at] = kept[(at - 1) / 2];
    kept[at] = new;
}

/* The score that another has to surpass. */
static inline float least_kept(const Candidate *kept, size_t count, size_t most) {
    return count < most ? -INFINITY : kept[most <= FEW_KEPT ? most - 1 : 0].score;
}

/* Best first, in place. */
static void sort_kept(Candidate *kept, size_t count, size_t most) {
    if (most <= FEW_KEPT) return;
    while (count > 1) {
        Candidate last = kept[--count];
        kept[count] = kept[0];
        sift(kept, count, 0, last);
    }
}

static int is_excluded(const Trie *trie, int32_t row) {
    size_t low = 0, high = trie->excluded;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (trie->exclude[middle] < row) low = middle + 1;
        else high = middle;
    }
    return low < trie->excluded && trie->exclude[low] == row;
}

typedef struct {
    Candidate *kept; /* of the level that is searched, at most `most` */
    size_t count, most;
    int32_t order;
    int32_t *node;  /* [B] of the beams */
    float *score;   /* [B] */
    int32_t *codes; /* [B, L] */
    size_t beams;
} Beams;

/* Keep the best of a beam's children. logits [K]; `norm` is the logarithm of the sum of their exponentials. */
static void expand(const Model *m, const Trie *trie, Beams *b, size_t beam, const float *logits, float norm, int last) {
    int32_t node = b->node[beam], first = trie->first_child[node], end = trie->first_child[node + 1];
    float base = b->score[beam] - (trie->bias ? trie->bias[node] : 0.0f), least = least_kept(b->kept, b->count, b->most);
    if (first < 0 || (size_t)end > trie->nodes) return; /* no trie that was built by us */
    for (int32_t child = first; child < end; child++) {
        size_t code = trie->codes8 ? trie->codes8[child] : trie->codes16[child];
        if (code >= m->codes) continue;
        float score = base + (logits[code] - norm);
        if (trie->bias) score += trie->bias[child];
        int32_t order = b->order++;
        if (!(score > least)) continue; /* −inf and NaN, too */
        if (last && trie->excluded && is_excluded(trie, child - (int32_t)trie->internal)) continue;
        keep(b->kept, &b->count, b->most, (Candidate){score, order, child, (int32_t)beam});
        least = least_kept(b->kept, b->count, b->most);
    }
}

/* The kept candidates become the beams of the next level. `spare` has room for [B, L] codes. */
static void advance(const Model *m, const Trie *trie, size_t level, Beams *b, int32_t *spare) {
    size_t levels = m->levels;
    sort_kept(b->kept, b->count, b->most);
    for (size_t i = 0; i < b->count; i++) {
        Candidate c = b->kept[i];
        memcpy(spare + i * levels, b->codes + (size_t)c.parent * levels, level * sizeof(int32_t));
        spare[i * levels + level] = trie->codes8 ? trie->codes8[c.node] : trie->codes16[c.node];
        b->node[i] = c.node;
        b->score[i] = c.score;
    }
    memcpy(b->codes, spare, b->count * levels * sizeof(int32_t));
    b->beams = b->count;
    b->count = 0;
    b->order = 0;
}

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
    Vec most = load(x), sum = {0};
    for (size_t i = LANES; i < n; i += LANES) most = larger(most, load(x + i));
    float shift = largest_of(most);
    for (size_t i = 0; i < n; i += LANES) sum += exponential(load(x + i) - shift);
    return shift + logf(sum_of(sum));
}

#define FIRST_BEAMS 8 /* scored at first */
#define BLOCK_BEAMS 6 /* and then at a time, as long as they may matter */

/* Logits of a level for `count` beams, [count, K]. `z` and `pairs` are scratch. */
static void score_block(const Model *m, size_t level, const Beams *b, size_t from, size_t count, const float *shared,
                        const float *query, float *z, float *pairs, float *logits) {
    const Level *decoder = &m->level[level];
    size_t ld = padded(m->middle), ld_pair = padded(m->pair_dim), ld_k = padded(m->codes);
    for (size_t i = 0; i < count; i++) prefix(m, level, shared, b->codes + (from + i) * m->levels, z + i * ld);
    if (m->pair_dim && level > 1) {
        for (size_t i = 0; i < count; i++) {
            const int32_t *codes = b->codes + (from + i) * m->levels;
            size_t row = pair_row(m, (size_t)codes[0], (size_t)codes[1]);
            memcpy(pairs + i * ld_pair, m->pair_table + row * ld_pair, ld_pair * sizeof(float));
        }
        linear(&decoder->pair, count, pairs, ld_pair, 0, logits, ld);
        add_rows(z, logits, count * ld);
    }
    for (size_t i = 0; i < count * ld; i += LANES) store(z + i, silu(load(z + i)));
    linear(&decoder->out, count, z, ld, decoder->out_bias, logits, ld_k);
    if (m->pair_dim && level == 1)
        for (size_t i = 0; i < count; i++) add_pairs(m, (size_t)b->codes[(from + i) * m->levels], query, logits + i * ld_k);
}

static int search(const Model *m, const float *hidden, const Trie *trie, size_t beam, size_t most, int32_t *rows,
                  float *scores, size_t *found) {
    size_t ld = padded(m->middle), ld_k = padded(m->codes), wide = ld > ld_k ? ld : ld_k;
    size_t shared_size = padded(m->levels * m->middle), ld_pair = padded(m->pair_dim);
    size_t floats = shared_size + ld_pair + FIRST_BEAMS * (ld + ld_pair + wide) + beam;
    size_t bytes = beam * sizeof(Candidate) + floats * sizeof(float) + beam * (1 + 2 * m->levels) * sizeof(int32_t);
    void *room = malloc(bytes + 128);
    if (!room) return -1;
    Beams b = {.kept = (Candidate *)aligned(room), .most = beam, .beams = 1};
    float *shared = aligned(b.kept + beam), *query = shared + shared_size, *z = query + ld_pair;
    float *pairs = z + FIRST_BEAMS * ld, *logits = pairs + FIRST_BEAMS * ld_pair;
    b.score = logits + FIRST_BEAMS * wide;
    b.node = (int32_t *)(b.score + beam);
    b.codes = b.node + beam;
    int32_t *spare = b.codes + beam * m->levels;
    b.score[0] = 0.0f;
    b.node[0] = 0;

    memset(z, 0, FIRST_BEAMS * ld * sizeof(float));
    linear(&m->hidden, 1, hidden, 0, m->hidden_bias, shared, 0);
    if (m->pair_dim) linear(&m->pair_query, 1, hidden, 0, 0, query, 0);
    for (size_t level = 0; level < m->levels && b.beams; level++) {
        int last = level + 1 == m->levels;
        if (last) b.most = most;
        for (size_t from = 0, count; from < b.beams; from += count) {
            /* A child scores its parent's score at most: beams below all that are kept, and those behind, add nothing. */
            if (!trie->bias && b.score[from] < least_kept(b.kept, b.count, b.most)) break;
            count = from ? BLOCK_BEAMS : FIRST_BEAMS;
            if (count > b.beams - from) count = b.beams - from;
            score_block(m, level, &b, from, count, shared, query, z, pairs, logits);
            for (size_t i = 0; i < count; i++)
                expand(m, trie, &b, from + i, logits + i * ld_k, log_sum(logits + i * ld_k, ld_k), last);
        }
        if (!last) advance(m, trie, level, &b, spare);
    }
    sort_kept(b.kept, b.count, b.most);
    for (size_t i = 0; i < b.count; i++) {
        rows[i] = b.kept[i].node - (int32_t)trie->internal;
        scores[i] = b.kept[i].score;
    }
    *found = b.count;
    free(room);
    return 0;
}
