/* Hidden state and trie → the best leaves, for both kinds of model. Included by compute.h. */

static int search(const Model *m, const float *hidden, const float *cache, size_t tokens, const Trie *trie, size_t beam,
                  size_t most, int32_t *rows, float *scores, size_t *found) {
    size_t floats = m->vocab ? reading_floats(m, tokens, beam) : decoding_floats(m), ints = beam * (1 + 3 * m->levels);
    void *room = malloc(beam * sizeof(Candidate) + (floats + beam) * sizeof(float) + ints * sizeof(int32_t) + 128);
    if (!room) return -1;
    Beams b = {.kept = (Candidate *)aligned(room), .most = beam, .beams = 1};
    float *numbers = aligned(b.kept + beam);
    b.score = numbers + floats;
    b.node = (int32_t *)(b.score + beam);
    b.codes = b.node + beam;
    b.line = b.codes + beam * m->levels;
    int32_t *spare = b.line + beam * m->levels;
    b.score[0] = 0.0f;
    b.node[0] = 0;

    Reading reading = {0};
    Decoding decoding = {0};
    if (m->vocab) reading = begin_reading(m, hidden, cache, tokens, beam, numbers);
    else decoding = begin_decoding(m, hidden, numbers);
    size_t first = m->vocab ? FIRST_READ : FIRST_BEAMS, next = m->vocab ? BLOCK_READ : BLOCK_BEAMS;
    size_t columns = padded(m->vocab ? m->vocab : m->codes);
    float *logits = m->vocab ? reading.logits : decoding.logits;
    for (size_t level = 0; level < m->levels && b.beams; level++) {
        int last = level + 1 == m->levels;
        const int32_t *token = m->vocab ? m->token + level * m->codes : 0;
        if (last) b.most = most;
        for (size_t from = 0, count; from < b.beams; from += count) {
            /* A child scores its parent's score at most: beams below all that are kept, and those behind, add nothing. */
            if (!trie->bias && b.score[from] < least_kept(b.kept, b.count, b.most)) break;
            count = from ? next : first;
            if (count > b.beams - from) count = b.beams - from;
            if (m->vocab) read_block(m, &reading, level, &b, from, count);
            else score_block(m, &decoding, level, &b, from, count);
            for (size_t i = 0; i < count; i++)
                expand(m, trie, &b, from + i, logits + i * columns, token, log_sum(logits + i * columns, columns), last);
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
