/* Hidden state and trie → the best leaves, for students and Llamas. Included by compute.h. */

typedef struct {
    Beams beams;
    StudentDecoder student; /* one of the two is used */
    LlamaDecoder llama;
} Search;

static Search place_search(const Model *m, size_t tokens, size_t beam, Workspace *w) {
    Search s = {.beams = place_beams(m, beam, w)};
    if (m->vocab) s.llama = place_llama_decoder(m, tokens, beam, w);
    else s.student = place_student_decoder(m, w);
    return s;
}

/* Keep the best children of all beams of a level. */
static void search_level(const Model *m, const Trie *trie, size_t level, Search *s) {
    Beams *b = &s->beams;
    size_t first = m->vocab ? FIRST_READ : FIRST_BEAMS, next = m->vocab ? BLOCK_READ : BLOCK_BEAMS;
    size_t columns = padded(m->vocab ? m->vocab : m->codes);
    const float *logits = m->vocab ? s->llama.logits : s->student.logits;
    const int32_t *token = m->vocab ? m->token + level * m->codes : 0;
    for (size_t from = 0, count; from < b->beams; from += count) {
        /* A child scores at most what its parent scores: beams below all that are kept, and those behind them, add nothing. */
        float least = score_to_beat(b), bias = trie->bias ? trie->bias[b->node[from]] : 0.0f;
        if (b->node[from] && b->score[from] + rounding(b->score[from], least, bias) < least) break;
        count = from ? next : first;
        if (count > b->beams - from) count = b->beams - from;
        if (m->vocab) read_block(m, &s->llama, level, b, from, count);
        else score_block(m, &s->student, level, b, from, count);
        for (size_t i = 0; i < count; i++)
            expand(m, trie, b, from + i, logits + i * columns, token, log_sum(logits + i * columns, columns),
                   level + 1 == m->levels);
    }
}

/* One search whose leaves exceed `least`. `cut`: no leaf that a narrow beam has cost exceeds it. */
static int search_once(const Model *m, const float *hidden, const float *cache, size_t tokens, const Trie *trie, size_t beam,
                       size_t limit, float least, int32_t *rows, float *scores, size_t *found, float *cut) {
    if (limit > beam) limit = beam;
    Workspace w = {.base = NULL};
    place_search(m, tokens, beam, &w);
    if (workspace_allocate(&w)) return -1;
    Search s = place_search(m, tokens, beam, &w);
    Beams *b = &s.beams;
    b->score[0] = 0.0f;
    b->node[0] = 0;
    b->least = least;
    if (m->vocab) begin_llama_decoder(m, hidden, cache, &s.llama);
    else begin_student_decoder(m, hidden, &s.student);
    for (size_t level = 0; level < m->levels && b->beams; level++) {
        int last = level + 1 == m->levels;
        if (last) b->limit = limit;
        search_level(m, trie, level, &s);
        if (!last) advance(m, trie, level, b);
    }
    sort_kept(b->kept, b->count, b->limit);
    for (size_t i = 0; i < b->count; i++) {
        rows[i] = b->kept[i].node - (int32_t)trie->internal;
        scores[i] = b->kept[i].score;
    }
    *found = b->count;
    *cut = b->cut;
    aligned_free(w.base);
    return 0;
}

#define WIDEST 1024 /* beam; as in runtime/engines/numpy_search.py */
#define WIDEST_LLAMA 64 /* whose beams have keys and values */

static int search(const Model *m, const float *hidden, const float *cache, size_t tokens, const Trie *trie, size_t beam,
                  size_t limit, int widen, int32_t *rows, float *scores, size_t *found) {
    if (beam > trie->nodes) beam = trie->nodes; /* there are no more to keep */
    size_t widest = m->vocab ? WIDEST_LLAMA : WIDEST;
    float least = -INFINITY, cut;
    for (;;) {
        if (search_once(m, hidden, cache, tokens, trie, beam, limit, least, rows, scores, found, &cut)) return -1;
        if (!widen) return 0;
        if (*found < limit && beam < limit + trie->excluded && least == -INFINITY) { /* excluded leaves filled the beam */
            beam = limit + trie->excluded;
        } else if (*found == limit && cut > scores[limit - 1] && beam < widest) {
            /* What the list has already need not be beaten: only prefixes that exceed its last score are looked at again. */
            least = scores[limit - 1];
            least -= 2.0f * rounding(least, trie->bias ? trie->bias[trie->internal + (size_t)rows[limit - 1]] : 0.0f, 0.0f);
            beam = widest;
        } else {
            return 0;
        }
        if (beam > trie->nodes) beam = trie->nodes;
    }
}
