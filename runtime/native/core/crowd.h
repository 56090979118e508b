/* The crowd: what arrives over the edges of a history's items. The arrays and the rule are those of
   runtime/experts/crowd.py; contents may be anything, since each index is checked where it is read. */
#ifndef POCKETREC_CROWD_H
#define POCKETREC_CROWD_H

#include <math.h>

#include "gains.h"

typedef struct {
    size_t items, edges;
    const int64_t *first;      /* [items + 1]; null: there is no crowd */
    const int32_t *neighbours; /* [edges] */
    const float *weights;      /* [edges] */
    const float *popular;      /* [items]: popular share · popularity */
    float weight;              /* b */
    double recency, personal;  /* weight of an item relative to the one after it; 1 − popular share */
} Crowd;

/* Add b · ln(1 + (1 − popular share) · share of the item / `popular`) to the gain of each item that the history reaches. */
static inline void add_crowd(const Crowd *c, const int32_t *history, size_t count, Gains *g) {
    size_t begun = g->count;
    double share = 1.0, total = 0.0;
    for (size_t age = 0; age < count && (float)share > 0.0f; age++, share *= c->recency) {
        int32_t row = history[count - 1 - age];
        int64_t at = c->first[row], end = c->first[row + 1];
        if (at < 0 || (uint64_t)end > c->edges) continue;
        for (; at < end; at++) add_sum(g, c->neighbours[at], (double)(c->weights[at] * (float)share));
    }
    for (size_t i = begun; i < g->count; i++) total += (double)(float)g->sum[g->reached[i]];
    float scale = total > 0.0 ? (float)(c->personal / total) : 0.0f;
    for (size_t i = begun; i < g->count; i++) {
        int32_t item = g->reached[i];
        g->gain[item] += c->weight * log1pf(scale * (float)g->sum[item] / c->popular[item]);
        g->sum[item] = 0.0;
    }
}

#endif
