/* The prefixes that a search keeps, by the rule of runtime/catalogue/beam.py. Included by compute.h. */

typedef struct {
    float score;
    uint32_t order; /* candidates are numbered by the ranks of their parents, then by their codes */
    int32_t node, parent;
} Candidate;

/* Tells whether a is worse than b; of equal scores, the later one is. */
static inline int worse(Candidate a, Candidate b) {
    return a.score < b.score || (a.score == b.score && a.order > b.order);
}

#define SORTED_LIMIT 64 /* up to this limit, candidates are kept in order; beyond it, as a heap whose first is the worst */

/* Put `new` into a heap of `count` candidates whose position `at` is free. */
static void sift(Candidate *heap, size_t count, size_t at, Candidate new) {
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && worse(heap[child + 1], heap[child])) child++;
        if (!worse(heap[child], new)) break;
        heap[at] = heap[child];
    }
    heap[at] = new;
}

/* Keep the best `limit` of the candidates kept so far and `new`, which is later than all of them. */
static void keep(Candidate *kept, size_t *count, size_t limit, Candidate new) {
    size_t at;
    if (limit <= SORTED_LIMIT) {
        if (*count == limit && !worse(kept[limit - 1], new)) return;
        at = *count < limit ? (*count)++ : limit - 1;
        for (; at && kept[at - 1].score < new.score; at--) kept[at] = kept[at - 1];
        kept[at] = new;
        return;
    }
    if (*count == limit) {
        if (worse(kept[0], new)) sift(kept, limit, 0, new);
        return;
    }
    at = (*count)++;
    for (; at && worse(new, kept[(at - 1) / 2]); at = (at - 1) / 2) kept[at] = kept[(at - 1) / 2];
    kept[at] = new;
}

/* The worst of `limit` candidates. */
static inline float worst_score(const Candidate *kept, size_t limit) {
    return kept[limit <= SORTED_LIMIT ? limit - 1 : 0].score;
}

/* Best first, in place. */
static void sort_kept(Candidate *kept, size_t count, size_t limit) {
    if (limit <= SORTED_LIMIT) return;
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
    Candidate *kept; /* of the level that is searched, at most `limit` */
    size_t count, limit;
    uint32_t order;
    float least;       /* candidates that do not exceed it are not looked for */
    float cut;         /* no candidate that was left out for want of room at a level exceeds it */
    int32_t *node;     /* [B] */
    float *score;      /* [B] */
    int32_t *codes;    /* [B, L] */
    int32_t *ancestor; /* [B, L]: the rank, at each level before, of the beam that a beam comes from */
    int32_t *spare;    /* [B, L] */
    size_t beams;
} Beams;

static Beams place_beams(const Model *m, size_t beam, Workspace *w) {
    Beams b = {.limit = beam, .beams = 1, .least = -INFINITY, .cut = -INFINITY};
    b.kept = carve(w, beam, 1, sizeof(Candidate));
    b.node = carve_ints(w, beam, 1);
    b.score = carve_floats(w, beam, 1);
    b.codes = carve_ints(w, beam, m->levels);
    b.ancestor = carve_ints(w, beam, m->levels);
    b.spare = carve_ints(w, beam, m->levels);
    return b;
}

/* The score that a new candidate must exceed. */
static inline float score_to_beat(const Beams *b) {
    return b->count < b->limit ? b->least : fmaxf(b->least, worst_score(b->kept, b->limit));
}

/* How far rounding may take a child's score above its parent's, where the numbers that are added have this size. */
static inline float rounding(float a, float b, float c) { return 1e-5f * (1.0f + fabsf(a) + fabsf(b) + fabsf(c)); }

/* A logit that surely gives a score of at most `least`, rounding included, where no bias is added. */
static inline float logit_floor(float least, float base, float norm) {
    return least - base + norm - rounding(least, base, norm);
}

static inline size_t code_of(const Trie *trie, int32_t node) { return trie->codes8 ? trie->codes8[node] : trie->codes16[node]; }

/* Keep the best of a beam's children. logits [K], or [V] with the token of each code; `norm` is the logarithm of the sum of
   their exponentials. */
static void expand(const Model *m, const Trie *trie, Beams *b, size_t beam, const float *logits, const int32_t *token,
                   float norm, int last) {
    int32_t node = b->node[beam];
    if ((size_t)node >= trie->internal) return; /* a leaf: the trie has fewer levels than the model */
    int32_t first = trie->first_child[node], end = trie->first_child[node + 1];
    /* Children are nodes, and those of the last level are leaves; else this is no trie that we built. */
    if (first < (last ? (int32_t)trie->internal : 1) || end < first || (size_t)end > trie->nodes) return;
    float bias = trie->bias ? trie->bias[node] : 0.0f, base = b->score[beam] - bias, least = score_to_beat(b);
    float floor = trie->bias ? -INFINITY : logit_floor(least, base, norm);
    for (int32_t child = first; child < end; child++) {
        size_t code = code_of(trie, child);
        if (code >= m->codes) continue;
        float logit = logits[token ? (size_t)token[code] : code];
        if (logit < floor) continue;
        float score = base + (logit - norm);
        if (trie->bias) score += trie->bias[child];
        if (!(score > least)) continue; /* −inf and NaN, too */
        if (last && trie->excluded && is_excluded(trie, child - (int32_t)trie->internal)) continue;
        keep(b->kept, &b->count, b->limit, (Candidate){score, b->order + (uint32_t)(child - first), child, (int32_t)beam});
        least = score_to_beat(b);
        if (!trie->bias) floor = logit_floor(least, base, norm);
    }
    b->order += (uint32_t)(end - first);
}

/* Replace rows [B, L] of the beams by those of the kept candidates' parents. */
static void inherit(const Beams *b, size_t levels, int32_t *rows) {
    for (size_t i = 0; i < b->count; i++)
        memcpy(b->spare + i * levels, rows + (size_t)b->kept[i].parent * levels, levels * sizeof(int32_t));
    memcpy(rows, b->spare, b->count * levels * sizeof(int32_t));
}

/* The kept candidates become the beams of the next level. */
static void advance(const Model *m, const Trie *trie, size_t level, Beams *b) {
    size_t levels = m->levels;
    if (b->count == b->limit) b->cut = fmaxf(b->cut, worst_score(b->kept, b->limit));
    sort_kept(b->kept, b->count, b->limit);
    inherit(b, levels, b->codes);
    inherit(b, levels, b->ancestor);
    for (size_t i = 0; i < b->count; i++) {
        int32_t node = b->kept[i].node;
        size_t code = code_of(trie, node);
        b->codes[i * levels + level] = code < m->codes ? (int32_t)code : 0; /* it may have changed since it was checked */
        b->ancestor[i * levels + level] = (int32_t)i;
        b->node[i] = node;
        b->score[i] = b->kept[i].score;
    }
    b->beams = b->count;
    b->count = 0;
    b->order = 0;
}
