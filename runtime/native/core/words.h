/* The words: items that share words with the last items of a history. The arrays and the rule are those of
   runtime/experts/words.py; contents may be anything, since each index is checked where it is read. */
#ifndef POCKETREC_WORDS_H
#define POCKETREC_WORDS_H

#include <math.h>
#include <string.h>

#include "gains.h"

#define MAX_ITEM_TERMS 255 /* words of an item; MAX_TERMS of runtime/experts/words.py */

typedef struct {
    size_t items, terms, vocabulary, postings;
    const int64_t *first;      /* [items + 1]; null: there are no words */
    const int32_t *term;       /* [terms] */
    const float *idf;          /* [vocabulary] */
    const float *norm;         /* [items] */
    const float *inverse;      /* [items]: 1 / norm */
    const int64_t *post_first; /* [vocabulary + 1] */
    const int32_t *post_items; /* [postings] */
    float weight;              /* a */
    double recency;
    size_t newest; /* items of the history whose words count */
} Words;

typedef struct {
    double worth;
    int32_t term;
} QueryTerm;

/* Merge an item's words, each worth `worth` · idf, into the words `from`, rising, and write both to `to`; give their number. */
static inline size_t merge_words(const Words *w, const int32_t *term, size_t terms, double worth, const QueryTerm *from, size_t count,
                          QueryTerm *to) {
    size_t out = 0, i = 0;
    for (size_t t = 0; t < terms; t++) {
        if ((uint32_t)term[t] >= w->vocabulary) continue;
        while (i < count && from[i].term < term[t]) to[out++] = from[i++];
        to[out] = (QueryTerm){worth * (double)w->idf[term[t]], term[t]};
        if (i < count && from[i].term == term[t]) to[out].worth = from[i++].worth + to[out].worth;
        out++;
    }
    while (i < count) to[out++] = from[i++];
    return out;
}

/* Sum norm · Σ cosines of each item that shares a word with the last items. query: [2, newest · MAX_ITEM_TERMS]. */
static inline void sum_words(const Words *w, const int32_t *history, size_t count, QueryTerm *query, Gains *g) {
    QueryTerm *from = query, *to = query + w->newest * MAX_ITEM_TERMS;
    size_t terms = 0;
    double share = 1.0;
    for (size_t age = 0; age < count && age < w->newest; age++, share *= w->recency) {
        int32_t row = history[count - 1 - age];
        int64_t at = w->first[row], end = w->first[row + 1];
        if (at < 0 || end < at || (uint64_t)end > w->terms || end - at > MAX_ITEM_TERMS) continue;
        terms = merge_words(w, w->term + at, (size_t)(end - at), share / (double)w->norm[row], from, terms, to);
        QueryTerm *merged = to;
        to = from, from = merged;
    }
    double *sum = g->sum; /* in variables, which the compiler keeps in registers */
    int32_t *reached = g->reached;
    size_t items = g->items, found = g->count;
    for (size_t t = 0; t < terms; t++) {
        int64_t at = w->post_first[from[t].term], end = w->post_first[from[t].term + 1];
        double worth = from[t].worth * (double)w->idf[from[t].term];
        if (at < 0 || (uint64_t)end > w->postings || !(worth > 0.0)) continue;
        for (; at < end; at++) {
            int32_t item = w->post_items[at];
            if ((uint32_t)item >= items) continue;
            double before = sum[item];
            reached[found] = item;
            found += before == 0.0;
            sum[item] = before + worth;
        }
    }
    g->count = found;
}

/* The gain of an item by its sum. */
static inline float words_gain(const Words *w, int32_t item, double sum) { return w->weight * ((float)sum * w->inverse[item]); }

/* Fill in the length of each item's vector, norm [items], and the items of each word, size [vocabulary], zeros at first. 0
   where an index is out of range. */
static inline int measure_words(const Words *w, float *norm, int64_t *size) {
    for (size_t item = 0; item < w->items; item++) {
        int64_t at = w->first[item], end = w->first[item + 1];
        double sum = 0.0;
        if (at < 0 || (uint64_t)end > w->terms) return 0;
        for (; at < end; at++) {
            int32_t term = w->term[at];
            if ((uint32_t)term >= w->vocabulary) return 0;
            sum += (double)w->idf[term] * (double)w->idf[term];
            size[term]++;
        }
        norm[item] = sum > 0.0 ? (float)sqrt(sum) : 1.0f;
    }
    return 1;
}

/* Fill in the postings of each word, by row: of its items those that come first by `rank` [items], as many as there is room
   for in post_first [vocabulary + 1]. order [items]: the items by rank. count, last: [vocabulary], zeros at first. 0 where an
   index is out of range or a word has fewer items than room. */
static inline int fill_postings(const Words *w, const int32_t *order, const int32_t *rank, int32_t *post_items, int32_t *count,
                                int32_t *last) {
    for (size_t i = 0; i < w->items; i++) { /* the rank of the last item that each word has room for */
        if ((uint32_t)order[i] >= w->items) return 0;
        int64_t at = w->first[order[i]], end = w->first[order[i] + 1];
        if (at < 0 || (uint64_t)end > w->terms) return 0;
        for (; at < end; at++) {
            int32_t term = w->term[at];
            if ((uint32_t)term >= w->vocabulary) return 0;
            if (count[term] >= w->post_first[term + 1] - w->post_first[term]) continue;
            count[term]++;
            last[term] = (int32_t)i;
        }
    }
    for (size_t term = 0; term < w->vocabulary; term++) {
        if (count[term] != w->post_first[term + 1] - w->post_first[term]) return 0;
        count[term] = 0;
    }
    for (size_t item = 0; item < w->items; item++) {
        int64_t at = w->first[item], end = w->first[item + 1];
        if (at < 0 || (uint64_t)end > w->terms) return 0; /* it may be missing in `order` */
        for (; at < end; at++) {
            int32_t term = w->term[at];
            if ((uint32_t)term >= w->vocabulary) return 0;
            int64_t to = w->post_first[term] + count[term];
            if (rank[item] > last[term] || to >= w->post_first[term + 1]) continue;
            post_items[to] = (int32_t)item;
            count[term]++;
        }
    }
    return 1;
}

#endif
