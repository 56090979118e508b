/* From item ids to recommendations in one call, for the usual case: a whole catalogue, known ids, no control. Crowd and words
   are joined with the model where a floor is given.

   The rule is that of `Retrieval.best` in runtime/retrieval.py. Any other case gives None, and Python computes the list. */
#include "catalogue.h"
#include "fusion.h"

#include <stdlib.h>
#include <string.h>

/* Scores outside these bounds are left to Python, which refuses them. ROUNDING of runtime/engines/validate.py, −MAX_SCORE of
   runtime/retrieval.py. */
#define HIGHEST_SCORE 1e-3f
#define HIGHEST_ABOVE_BIAS 1.0f /* BIAS_ROUNDING */
#define LOWEST_SCORE -1e9f

/* Memory of a call: leaf rows of the history, oldest first; the excluded ones of them, rising and each once; semantic IDs
   of the history's end; results; hidden and cache, where they are computed here. */
typedef struct {
    Workspace memory;
    size_t count, excluded;
    int32_t *leaves, *exclude, *sids, *found;
    float *scores, *hidden, *cache;
} Work;

static void place_work(const Model *m, Work *w, size_t items, size_t tokens, size_t k) {
    w->leaves = carve_ints(&w->memory, w->count, 1);
    w->exclude = carve_ints(&w->memory, w->count, 1);
    w->sids = carve_ints(&w->memory, items, m->levels);
    w->found = carve_ints(&w->memory, k, 1);
    w->scores = carve_floats(&w->memory, k, 1);
    w->hidden = carve_floats(&w->memory, m->dim, 1);
    w->cache = m->vocab ? carve_floats(&w->memory, tokens, cache_width(m)) : NULL;
}

/* For a history of `count` leaf rows, the last `items` of which are to be read as `tokens` tokens. */
static int allocate_work(const Model *m, Work *w, size_t count, size_t items, size_t tokens, size_t k) {
    w->count = count;
    place_work(m, w, items, tokens, k);
    if (workspace_allocate(&w->memory)) return PyErr_NoMemory() != NULL;
    place_work(m, w, items, tokens, k);
    return 1;
}

/* Leaf rows of `count` ids; 0 where one is not a string or not known, or the list has another length by now. */
static int find_leaves(const Catalogue *c, PyObject *ids, size_t count, int32_t *leaves) {
    size_t i = 0;
    Py_BEGIN_CRITICAL_SECTION(ids);
    for (; i < count && (size_t)PyList_GET_SIZE(ids) == count; i++) {
        PyObject *id = PyList_GET_ITEM(ids, (Py_ssize_t)i);
        Py_ssize_t size = 0;
        const char *text = PyUnicode_CheckExact(id) ? PyUnicode_AsUTF8AndSize(id, &size) : NULL;
        leaves[i] = text && size ? row_of(&c->ids, text, size) : -1;
        if (leaves[i] < 0) break;
    }
    Py_END_CRITICAL_SECTION();
    PyErr_Clear();
    return i == count;
}

/* Semantic IDs of the last `items` leaf rows; 0 where the model does not have one of their codes. */
static int find_sids(const Model *m, const Catalogue *c, size_t items, Work *w) {
    for (size_t i = 0; i < items * m->levels; i++) {
        size_t at = (size_t)w->leaves[w->count - items + i / m->levels] * m->levels + i % m->levels;
        w->sids[i] = c->rows8 ? c->rows8[at] : c->rows16[at];
        if ((size_t)w->sids[i] >= m->codes) return 0;
    }
    return 1;
}

/* Leaf rows int32 [n] of a history that was encoded before. */
static int take_leaves(const Model *m, const Catalogue *c, Buffers *b, PyObject *array, size_t k, Work *w) {
    const Py_buffer *view = take_buffer(b, array, OF_INT32, "history_leaves");
    if (!view || !allocate_work(m, w, item_count(view), 0, 0, k)) return 0;
    memcpy(w->leaves, view->buf, (size_t)view->len);
    for (size_t i = 0; i < w->count; i++)
        if (w->leaves[i] < 0 || (size_t)w->leaves[i] >= c->ids.count) return refuse("there is no such leaf");
    return 1;
}

static void exclude_history(Work *w) {
    memcpy(w->exclude, w->leaves, w->count * sizeof(int32_t));
    qsort(w->exclude, w->count, sizeof(int32_t), by_value);
    for (size_t i = 0; i < w->count; i++)
        if (!i || w->exclude[i] != w->exclude[w->excluded - 1]) w->exclude[w->excluded++] = w->exclude[i];
}

static PyObject *items_of(const Catalogue *c, const Work *w, size_t found) {
    PyObject *out = PyList_New((Py_ssize_t)found);
    for (size_t i = 0; out && i < found; i++) {
        PyObject *item = catalogue_item(c, w->found[i], w->scores[i]);
        if (item) PyList_SET_ITEM(out, (Py_ssize_t)i, item);
        else Py_CLEAR(out);
    }
    return out;
}

typedef struct {
    PyObject *ids, *hidden, *cache, *history_leaves; /* ids, or the other three */
    Py_ssize_t k, beam;
    int exclude_seen, widen;
    FloorObject *floor; /* or null: the model alone */
} Arguments;

/* Tells whether a sound model can have given these scores, best first. */
static int are_sound(const Work *w, size_t found, const Trie *trie) {
    if (!found) return 1;
    if (!(w->scores[found - 1] >= LOWEST_SCORE)) return 0;
    if (!trie->bias) return w->scores[0] <= HIGHEST_SCORE;
    for (size_t i = 0; i < found; i++)
        if (!(w->scores[i] <= trie->bias[trie->internal + (size_t)w->found[i]] + HIGHEST_ABOVE_BIAS)) return 0;
    return w->scores[0] <= -LOWEST_SCORE;
}

static PyObject *recommend_items(const ModelObject *self, const Catalogue *c, const Arguments *a, Buffers *b, Work *w) {
    const Model *m = &self->model;
    size_t items = 0, tokens = 0, found = 0, k = (size_t)a->k;
    const float *hidden = NULL, *cache = NULL;
    if (a->ids != Py_None) {
        size_t count = (size_t)PyList_GET_SIZE(a->ids);
        items = count < m->max_history ? count : m->max_history;
        tokens = fresh_tokens(m, items, 0);
        if (!allocate_work(m, w, count, items, tokens, k)) return NULL;
        if (!find_leaves(c, a->ids, count, w->leaves) || !find_sids(m, c, items, w)) Py_RETURN_NONE;
    } else if (!take_encoded(m, b, a->hidden, a->cache, &hidden, &cache, &tokens) ||
               !take_leaves(m, c, b, a->history_leaves, k, w)) {
        return NULL;
    }
    if (a->exclude_seen) exclude_history(w);
    Trie trie = c->trie;
    trie.exclude = w->exclude, trie.excluded = w->excluded;
    size_t left = c->ids.count - w->excluded, limit = k < left ? k : left;
    size_t beam = (size_t)a->beam > limit ? (size_t)a->beam : limit;
    int failed = 0, sound = 1;
    Lift *lift = NULL;
    if (limit && a->floor && !(lift = take_lift(a->floor))) return NULL;
    if (limit) {
        Py_BEGIN_ALLOW_THREADS
        if (lift) {
            raise_nodes(&a->floor->experts->experts, &a->floor->floor, w->leaves, w->count, a->exclude_seen, lift);
            trie.bias = lift->nodes;
        }
        if (!hidden) {
            failed = self->kernels->encode(m, w->sids, items, NULL, 0, w->hidden, w->cache);
            hidden = w->hidden, cache = w->cache;
        }
        failed = failed ||
                 self->kernels->search(m, hidden, cache, tokens, &trie, beam, limit, a->widen, w->found, w->scores, &found);
        sound = failed || are_sound(w, found, &trie);
        if (lift) lower_nodes(&a->floor->floor, w->leaves, w->count, lift);
        Py_END_ALLOW_THREADS
    }
    if (lift) give_lift_back(a->floor, lift);
    if (failed) return PyErr_NoMemory();
    if (found < limit || !sound) Py_RETURN_NONE; /* a wider search may find more */
    return items_of(c, w, found);
}

PyObject *model_recommend_items(PyObject *object, PyObject *args) {
    const ModelObject *self = (ModelObject *)object;
    PyObject *catalogue, *floor;
    Arguments a = {.floor = NULL};
    if (!PyArg_ParseTuple(args, "OOOOOOO&O&pp", &catalogue, &floor, &a.ids, &a.hidden, &a.cache, &a.history_leaves, take_count,
                          &a.k, take_count, &a.beam, &a.exclude_seen, &a.widen))
        return NULL;
    const Catalogue *c = as_catalogue(catalogue);
    if (!c || c->levels != self->model.levels) return refuse("this is not a catalogue of the model's"), NULL;
    if (floor != Py_None) {
        if (!(a.floor = as_floor(floor))) return PyErr_Format(PyExc_TypeError, "this is no Floor");
        if (a.floor->floor.nodes != c->trie.nodes || a.floor->floor.leaf_of || a.floor->floor.items != c->ids.count)
            return refuse("this is not the floor of this catalogue"), NULL;
    }
    if (a.k < 1 || a.beam < 1 || (size_t)a.k > c->trie.nodes || (a.ids != Py_None && !PyList_CheckExact(a.ids))) Py_RETURN_NONE;
    Buffers b = {.count = 0};
    Work w = {.count = 0};
    PyObject *out = recommend_items(self, c, &a, &b, &w);
    aligned_free(w.memory.base);
    release_buffers(&b);
    return out;
}
