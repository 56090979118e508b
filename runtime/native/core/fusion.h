/* Crowd and words joined: what each node of a trie gains after a history, by the rule of runtime/experts/fusion.py.

   A catalogue's nodes keep a floor that no history changes. A call raises the paths of the items that its history reaches in
   memory of its own (Lift), and afterwards puts the floor back on these paths alone: cost does not grow with the catalogue. */
#ifndef POCKETREC_FUSION_H
#define POCKETREC_FUSION_H

#include "crowd.h"
#include "memory.h"
#include "words.h"

#define MAX_DEPTH 64

typedef struct {
    size_t items; /* of the catalogue's table */
    Crowd crowd;
    Words words;
    float seen; /* gain of each item of the history, where it may come back */
} Experts;

typedef struct {
    size_t items, leaves, nodes, depth;
    const float *leaf;      /* [leaves]: gain of each if nothing reaches it */
    const float *node;      /* [nodes]: the largest of these below; of the root 0 */
    const int32_t *parents; /* [nodes], smaller than the node */
    const int32_t *leaf_of; /* [items]: of table rows, −1: none; null: leaf rows are table rows */
} Floor;

/* Memory of one call at a time. */
typedef struct Lift {
    struct Lift *next;
    Gains gains;
    QueryTerm *query;
    float *nodes; /* [nodes]: the gains of this call; between calls the floor */
} Lift;

static inline void free_lift(Lift *l) {
    if (!l) return;
    free(l->gains.sum), free(l->gains.gain), free(l->gains.seen), free(l->gains.reached), free(l->query), free(l->nodes);
    free(l);
}

/* NULL where memory is short. */
static inline Lift *new_lift(const Experts *e, const Floor *f) {
    Lift *l = calloc(1, sizeof(Lift));
    size_t query = e->words.first ? size_times(2 * MAX_ITEM_TERMS, size_times(e->words.newest, sizeof(QueryTerm))) : 1;
    if (!l) return NULL;
    l->gains.items = e->items;
    l->gains.sum = calloc(e->items + 1, sizeof(double));
    l->gains.gain = calloc(e->items + 1, sizeof(float));
    l->gains.seen = calloc(e->items + 1, 1);
    l->gains.reached = malloc(size_times(size_plus(size_times(e->items, 2), 1), sizeof(int32_t)));
    l->query = malloc(query);
    l->nodes = malloc(size_times(f->nodes, sizeof(float)));
    if (l->gains.sum && l->gains.gain && l->gains.seen && l->gains.reached && l->query && l->nodes) {
        memcpy(l->nodes, f->node, f->nodes * sizeof(float));
        return l;
    }
    free_lift(l);
    return NULL;
}

/* The node of an item's leaf; 0, the root, where the trie lacks it. */
static inline size_t node_of(const Floor *f, int32_t item) {
    int32_t leaf = f->leaf_of ? f->leaf_of[item] : item;
    return (uint32_t)leaf < f->leaves ? f->nodes - f->leaves + (size_t)leaf : 0;
}

/* The parent of a node; the root's is the root. */
static inline size_t parent_of(const Floor *f, size_t node) {
    size_t parent = (uint32_t)f->parents[node];
    return parent < f->nodes ? parent : 0;
}

/* Nodes from the last leaf up to below the root, which all leaves have. */
static inline size_t depth_of(const Floor *f) {
    size_t depth = 0;
    for (size_t at = f->nodes - 1; at && depth < MAX_DEPTH; at = parent_of(f, at)) depth++;
    return depth;
}

/* Raise the path of an item by its gain, which is forgotten. Without branches, since hardly any of them could be foreseen;
   the root is raised, too. */
static inline void raise_item(const Floor *f, int32_t item, float gain, Gains *g, float *nodes) {
    size_t at = node_of(f, item);
    g->gain[item] = 0.0f;
    if (!at) return;
    float value = f->leaf[at - (f->nodes - f->leaves)] + gain;
    nodes[at] = value;
    for (size_t level = 1; level < f->depth; level++) {
        at = parent_of(f, at);
        nodes[at] = nodes[at] < value ? value : nodes[at];
    }
}

/* Give the history's items their part: `seen`, once, or no gain at all where they are left out of the list. `sum` is the
   words', not yet turned into gains. */
static inline void settle_history(const Experts *e, const int32_t *history, size_t count, int excluded, Gains *g) {
    if (!excluded && e->seen == 0.0f) return;
    for (size_t i = 0; i < count; i++) {
        int32_t item = history[i];
        if (excluded) g->gain[item] = 0.0f, g->sum[item] = 0.0;
        else if (!g->seen[item]) g->gain[item] += e->seen, g->seen[item] = 1;
    }
    for (size_t i = 0; i < count; i++) g->seen[history[i]] = 0;
}

/* Raise the path of an item unless that was done. */
static inline void raise_left(const Floor *f, int32_t item, Gains *g, float *nodes) {
    float gain = g->gain[item];
    if (gain != 0.0f) raise_item(f, item, gain, g, nodes);
}

/* Fill `nodes` in after a history, whose rows are below `items`, oldest first. With `excluded`, the history's items are left
   out of the list and raise nothing. Undo with `lower_nodes`, for the same history. */
static inline void raise_nodes(const Experts *e, const Floor *f, const int32_t *history, size_t count, int excluded, Lift *l) {
    Gains *g = &l->gains;
    g->count = 0;
    if (e->crowd.first) add_crowd(&e->crowd, history, count, g);
    size_t by_crowd = g->count;
    if (e->words.first) sum_words(&e->words, history, count, l->query, g);
    settle_history(e, history, count, excluded, g);
    for (size_t i = by_crowd; i < g->count; i++) {
        int32_t item = g->reached[i];
        float gain = g->gain[item] + words_gain(&e->words, item, g->sum[item]);
        g->sum[item] = 0.0;
        raise_item(f, item, gain, g, l->nodes);
    }
    for (size_t i = 0; i < by_crowd; i++) raise_left(f, g->reached[i], g, l->nodes);
    for (size_t i = 0; !excluded && i < count; i++) raise_left(f, history[i], g, l->nodes);
    l->nodes[0] = 0.0f;
}

/* Put the floor back on the path of an item. */
static inline void lower_item(const Floor *f, int32_t item, float *nodes) {
    size_t at = node_of(f, item);
    for (size_t level = 0; level < f->depth; level++, at = parent_of(f, at)) nodes[at] = f->node[at];
}

#define COPIED_FASTER 4 /* nodes are copied in the time of one path */

static inline void lower_nodes(const Floor *f, const int32_t *history, size_t count, Lift *l) {
    const Gains *g = &l->gains;
    if ((g->count + count) * COPIED_FASTER > f->nodes) {
        memcpy(l->nodes, f->node, f->nodes * sizeof(float));
        return;
    }
    for (size_t i = 0; i < g->count; i++) lower_item(f, g->reached[i], l->nodes);
    for (size_t i = 0; i < count; i++) lower_item(f, history[i], l->nodes);
}

#endif
