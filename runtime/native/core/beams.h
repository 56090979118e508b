/* The prefixes that a search keeps, by the rule of runtime/catalogue/beam.py. Included by compute.h. */

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
    int32_t *line;  /* [B, L]: which of the beams that were read at each level a Llama's beam comes from */
    size_t beams;
} Beams;

/* A logit that is surely too small for a score above `least`, rounding included; none where there is a bias. */
static inline float below(const Trie *trie, float least, float base, float norm) {
    return trie->bias ? -INFINITY : least - base + norm - 1e-5f * (1.0f + fabsf(least) + fabsf(base) + fabsf(norm));
}

/* Keep the best of a beam's children. logits [K], or [V] with the token of each code; `norm` is the logarithm of the sum of
   their exponentials. */
static void expand(const Model *m, const Trie *trie, Beams *b, size_t beam, const float *logits, const int32_t *token,
                   float norm, int last) {
    int32_t node = b->node[beam];
    if ((size_t)node >= trie->internal) return; /* a trie of fewer levels than the model's */
    int32_t first = trie->first_child[node], end = trie->first_child[node + 1];
    float base = b->score[beam] - (trie->bias ? trie->bias[node] : 0.0f), least = least_kept(b->kept, b->count, b->most);
    float hopeless = below(trie, least, base, norm);
    if (first < 0 || (size_t)end > trie->nodes) return; /* no trie that was built by us */
    for (int32_t child = first; child < end; child++) {
        size_t code = trie->codes8 ? trie->codes8[child] : trie->codes16[child];
        if (code >= m->codes) continue;
        float logit = logits[token ? (size_t)token[code] : code];
        if (logit < hopeless) continue;
        float score = base + (logit - norm);
        if (trie->bias) score += trie->bias[child];
        if (!(score > least)) continue; /* −inf and NaN, too */
        if (last && trie->excluded && is_excluded(trie, child - (int32_t)trie->internal)) continue;
        keep(b->kept, &b->count, b->most, (Candidate){score, b->order + child - first, child, (int32_t)beam});
        least = least_kept(b->kept, b->count, b->most);
        hopeless = below(trie, least, base, norm);
    }
    b->order += end - first;
}

/* Take rows [B, L] over from the parents. */
static void inherit(const Beams *b, size_t levels, int32_t *rows, int32_t *spare) {
    for (size_t i = 0; i < b->count; i++)
        memcpy(spare + i * levels, rows + (size_t)b->kept[i].parent * levels, levels * sizeof(int32_t));
    memcpy(rows, spare, b->count * levels * sizeof(int32_t));
}

/* The kept candidates become the beams of the next level. `spare` has room for [B, L]. */
static void advance(const Model *m, const Trie *trie, size_t level, Beams *b, int32_t *spare) {
    size_t levels = m->levels;
    sort_kept(b->kept, b->count, b->most);
    inherit(b, levels, b->codes, spare);
    inherit(b, levels, b->line, spare);
    for (size_t i = 0; i < b->count; i++) {
        int32_t node = b->kept[i].node;
        b->codes[i * levels + level] = trie->codes8 ? trie->codes8[node] : trie->codes16[node];
        b->line[i * levels + level] = (int32_t)i;
        b->node[i] = node;
        b->score[i] = b->kept[i].score;
    }
    b->beams = b->count;
    b->count = 0;
    b->order = 0;
}
