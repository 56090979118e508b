/* Sums and gains of items after a history, in memory that is all zeros between calls. */
#ifndef POCKETREC_GAINS_H
#define POCKETREC_GAINS_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    size_t items;
    double *sum;      /* [items], of the expert that is computed */
    float *gain;      /* [items], of the experts so far */
    uint8_t *seen;    /* [items]: 1 for items of the history */
    int32_t *reached; /* [2 · items + 1]: each item at most once by each expert */
    size_t count;     /* of them */
} Gains;

/* Add a positive number to an item's sum, and note the item the first time. */
static inline void add_sum(Gains *g, int32_t item, double value) {
    if ((uint32_t)item >= g->items || !(value > 0.0)) return;
    g->reached[g->count] = item;
    g->count += g->sum[item] == 0.0;
    g->sum[item] += value;
}

#endif
