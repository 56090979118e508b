/* The model and the search as the compute kernels see them. Numbers are float32; matrices are row-major, for `x @ w`.

   Shapes in comments, as in export/blocks.py, export/weights.py and export/llama/weights.py: D width, H heads, G key-value
   heads, d head width, F feed-forward, M decoder width, K codes, L levels, P width of the pair table, R pairs, V vocabulary;
   N items, S tokens, B beams. */
#ifndef POCKETREC_MODEL_H
#define POCKETREC_MODEL_H

#include "memory.h"

#define MAX_LEVELS 32
#define PAD 32 /* rows of numbers are padded with zeros to a multiple of this, the widest panel of any instruction set */

static inline size_t padded(size_t n) { return (n + PAD - 1) / PAD * PAD; }

#define INT8_MAX_ROWS 4096 /* of an int8 matrix */

/* A matrix [k, n], laid out in panels: PANEL columns of all k rows, then the next PANEL columns. Kernels that compute in
   int8 have `bytes` (linear_int8.h) in place of `panels`, and a scale and an offset for each column, padded. */
typedef struct {
    size_t k, n;
    float *panels;
    int8_t *bytes;
    float *scale;
    int32_t *offset;
} Linear;

typedef struct {
    Linear q, kv, o, gate_up, down; /* [D, H·d], scaled; [D, 2·G·d]; [H·d, D]; [D, 2·F]; [F, D] */
    float *q_bias, *kv_bias, *o_bias, *gate_up_bias, *down_bias; /* of their columns, padded; null: none */
} Block;

typedef struct {
    Linear out;                /* [M, K] */
    float *out_bias;           /* [K], padded with −inf */
    float *table[MAX_LEVELS];  /* of each earlier level, what its codes add: [K, M] each, rows padded */
    Linear pair;               /* [P, M], from the third level on */
} Level;

/* A student: a token per item, and a decoder of semantic IDs. Or, where `vocab` is not 0, a converted Llama: a token per
   code, and a head over all tokens. */
typedef struct {
    size_t levels, codes, dim, layers, blocks, heads, kv_heads, head_dim, ffn, middle, pair_dim, pairs, max_history;
    size_t vocab, prompt; /* V, and tokens that are read before the history */
    float eps;
    float *norm, *cos, *sin; /* [D]; [positions, d] twice */
    Block *block;
    /* a Llama's */
    int32_t *token;    /* [L·K]: token of each code, level by level */
    float *place;      /* [L·K + max(prompt, 1), D], rows padded: embeddings of these tokens and of those read first */
    Linear head;       /* [D, V] */
    float *head_bias;  /* [V] zeros, padded with −inf */
    /* a student's */
    float *start;             /* [D] */
    float *embed[MAX_LEVELS]; /* [K, D] each, rows padded */
    Linear hidden;            /* [D, L·M] */
    float *hidden_bias;
    Level *level;
    int32_t *pair_keys;   /* [R], rising, c1·K + c2 */
    int32_t *pair_begin;  /* [K + 1]: where the keys of each first code begin */
    float *pair_table;    /* [1 + R, P], rows padded */
    Linear pair_into, pair_query; /* [P, D], [D, P] */
} Model;

/* Tokens in front of a history, where nothing was read before: a student's start; a Llama's prompt, or one token for an
   empty history. */
static inline size_t leading_tokens(const Model *m, size_t items) {
    return m->vocab ? (m->prompt ? m->prompt : items == 0) : 1;
}

/* Tokens that reading `items` after `past` tokens adds. */
static inline size_t fresh_tokens(const Model *m, size_t items, size_t past) {
    return (past ? 0 : leading_tokens(m, items)) + items * (m->vocab ? m->levels : 1);
}

/* Tokens that there are positions for. */
static inline size_t max_tokens(const Model *m) {
    return m->vocab ? m->prompt + (m->max_history + 1) * m->levels + 1 : m->max_history + 1;
}

/* Numbers that the cache of keys and values, [layers, 2, G, S, d], has for each token. */
static inline size_t cache_width(const Model *m) { return m->layers * 2 * m->kv_heads * m->head_dim; }

/* The catalogue; `codes8` or `codes16` is null. Its contents may be anything: a search checks each node that it reads. */
typedef struct {
    const int32_t *first_child; /* [internal + 1] */
    const uint8_t *codes8;      /* [nodes] */
    const uint16_t *codes16;
    size_t internal, nodes;
    const int32_t *exclude; /* leaf rows, rising */
    size_t excluded;
    const float *bias; /* [nodes], or null: no node's is below that of a node under it, the root's apart, which is 0 */
} Trie;

/* The functions of one instruction set. Those that give an int give 0, or −1 where memory is short. */
typedef struct {
    const char *name;
    size_t panel; /* columns */
    int int8;     /* products are computed in int8 */
    /* history int32 [N, L], all codes below K; past float32 [layers, 2, G, P, d] or null, with P = 0; writes hidden [D],
       and present [layers, 2, G, S, d] where it is not null. S = P + fresh_tokens. */
    int (*encode)(const Model *, const int32_t *history, size_t items, const float *past, size_t past_tokens,
                  float *hidden, float *present);
    /* Writes at most `limit` leaf rows and scores, best first, and their number to `found`. A beam of more than all nodes
       is one of all nodes; limit ≤ beam. With `widen`, it searches again and wider where a leaf that was cut may be better
       than the last found. A Llama needs the cache of the tokens read, [layers, 2, G, S, d]; a student none. */
    int (*search)(const Model *, const float *hidden, const float *cache, size_t tokens, const Trie *, size_t beam,
                  size_t limit, int widen, int32_t *rows, float *scores, size_t *found);
} Kernels;

extern const Kernels kernels_portable;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512, kernels_avx512_int8;
#elif defined(__aarch64__)
extern const Kernels kernels_neon_int8;
#endif

#define KERNELS_LIMIT 4

/* available.c. Fill a list with the kernels that this processor can run, the best first, int8 last; give their number. */
size_t available_kernels(const Kernels *list[KERNELS_LIMIT]);

#endif
