/* A model's calls from Python, of arrays: encode, search, and both in one.

   All arguments are checked here for type and size, and codes of a history are copied and checked; a search checks the nodes
   that it reads. So no call can read or write past a buffer, not even if another thread changes an array meanwhile: the
   interpreter's lock is released while numbers are computed. */
#include "module.h"

#include <stdlib.h>
#include <string.h>

int take_count(PyObject *number, void *count) {
    Py_ssize_t value = PyNumber_AsSsize_t(number, NULL);
    if (value == -1 && PyErr_Occurred()) return 0;
    *(Py_ssize_t *)count = value;
    return 1;
}

/* A copy of a history [N, L], its codes checked, that may be read after `past` tokens. Free it. */
static int take_history(const Model *m, Buffers *b, PyObject *array, size_t past, int32_t **history, size_t *items) {
    const Py_buffer *view = take_buffer(b, array, OF_INT32, "history");
    if (!view) return 0;
    size_t numbers = item_count(view);
    *items = numbers / m->levels;
    if (numbers % m->levels) return refuse("the history is not [items, levels]");
    if (*items > m->max_history || past + fresh_tokens(m, *items, past) > max_tokens(m) - (m->vocab ? m->levels + 1 : 0))
        return refuse("the history is longer than the model's");
    if (past && !*items) return refuse("there is nothing to read");
    *history = malloc((size_t)view->len + 1);
    if (!*history) return PyErr_NoMemory() != NULL;
    memcpy(*history, view->buf, (size_t)view->len);
    for (size_t i = 0; i < numbers; i++)
        if ((*history)[i] < 0 || (size_t)(*history)[i] >= m->codes) return refuse("the history has a code out of range");
    return 1;
}

/* A search's arguments, and where its results go. */
typedef struct {
    Trie trie;
    int32_t *sorted; /* copy of `exclude`, where it was not in order */
    size_t beam, limit;
    int widen;
    int32_t *rows;
    float *scores;
} Query;

static int take_trie(Buffers *b, PyObject *first_child, PyObject *codes, Trie *trie) {
    const Py_buffer *view = take_buffer(b, first_child, OF_INT32, "first_child");
    if (!view) return 0;
    if (item_count(view) < 2) return refuse("the trie has no nodes");
    trie->first_child = view->buf, trie->internal = item_count(view) - 1;
    if (!(view = take_buffer(b, codes, OF_CODES, "codes"))) return 0;
    if (view->itemsize == 1) trie->codes8 = view->buf;
    else trie->codes16 = view->buf;
    trie->nodes = item_count(view);
    if (trie->nodes < trie->internal || trie->nodes > INT32_MAX) return refuse("first_child and codes do not fit each other");
    return 1;
}

static int take_excluded(Buffers *b, PyObject *exclude, Query *query) {
    Trie *trie = &query->trie;
    const Py_buffer *view = take_buffer(b, exclude, OF_INT32, "exclude");
    if (!view) return 0;
    trie->exclude = view->buf, trie->excluded = item_count(view);
    size_t rising = 1;
    while (rising < trie->excluded && trie->exclude[rising - 1] <= trie->exclude[rising]) rising++;
    if (rising >= trie->excluded) return 1;
    query->sorted = malloc((size_t)view->len);
    if (!query->sorted) return PyErr_NoMemory() != NULL;
    memcpy(query->sorted, trie->exclude, (size_t)view->len);
    qsort(query->sorted, trie->excluded, sizeof(int32_t), by_value);
    trie->exclude = query->sorted;
    return 1;
}

static int take_results(Buffers *b, PyObject *rows, PyObject *scores, Query *query) {
    const Py_buffer *view = take_writable(b, rows, OF_INT32, "rows");
    if (!view) return 0;
    query->rows = view->buf, query->limit = item_count(view);
    if (query->limit < 1 || query->limit > query->beam) return refuse("rows are none, or more than the beam");
    if (!(view = take_writable(b, scores, OF_FLOAT32, "scores"))) return 0;
    query->scores = view->buf;
    return item_count(view) == query->limit ? 1 : refuse("there is not a score for each row");
}

static int take_query(Buffers *b, PyObject *first_child, PyObject *codes, PyObject *exclude, Py_ssize_t beam, PyObject *bias,
                      PyObject *rows, PyObject *scores, Query *query) {
    const Py_buffer *view;
    if (!take_trie(b, first_child, codes, &query->trie) || !take_excluded(b, exclude, query)) return 0;
    if (bias != Py_None) {
        if (!(view = take_buffer(b, bias, OF_FLOAT32, "bias"))) return 0;
        query->trie.bias = view->buf;
        if (item_count(view) != query->trie.nodes) return refuse("there is not a bias for each node");
    }
    if (beam < 1) return refuse("the beam is below 1");
    query->beam = (size_t)beam;
    return take_results(b, rows, scores, query);
}

PyObject *model_encode(PyObject *object, PyObject *args) {
    const ModelObject *self = (ModelObject *)object;
    const Model *m = &self->model;
    PyObject *history_array, *past_array, *hidden_array, *present_array;
    if (!PyArg_ParseTuple(args, "OOOO", &history_array, &past_array, &hidden_array, &present_array)) return NULL;
    Buffers b = {.count = 0};
    int32_t *history = NULL;
    const float *past = NULL;
    float *hidden, *present = NULL;
    const Py_buffer *view;
    size_t items, past_tokens = 0;
    int done = 0;
    if (past_array != Py_None) {
        if (!(view = take_buffer(&b, past_array, OF_FLOAT32, "past"))) goto out;
        past_tokens = item_count(view) / cache_width(m);
        if (item_count(view) % cache_width(m)) { refuse("the cache is not the model's"); goto out; }
        past = past_tokens ? view->buf : NULL;
    }
    if (!take_history(m, &b, history_array, past_tokens, &history, &items)) goto out;
    if (!(view = take_writable(&b, hidden_array, OF_FLOAT32, "hidden"))) goto out;
    hidden = view->buf;
    if (item_count(view) != m->dim) { refuse("hidden has another size"); goto out; }
    if (present_array != Py_None) {
        if (!(view = take_writable(&b, present_array, OF_FLOAT32, "present"))) goto out;
        present = view->buf;
        if (item_count(view) != size_times(cache_width(m), past_tokens + fresh_tokens(m, items, past_tokens))) {
            refuse("present has another size");
            goto out;
        }
    }
    Py_BEGIN_ALLOW_THREADS
    done = self->kernels->encode(m, history, items, past, past_tokens, hidden, present) == 0;
    Py_END_ALLOW_THREADS
    if (!done) PyErr_NoMemory();
out:
    free(history);
    release_buffers(&b);
    if (!done) return NULL;
    Py_RETURN_NONE;
}

int take_encoded(const Model *m, Buffers *b, PyObject *hidden_array, PyObject *cache_array, const float **hidden,
                 const float **cache, size_t *tokens) {
    const Py_buffer *view = take_buffer(b, hidden_array, OF_FLOAT32, "hidden");
    if (!view) return 0;
    *hidden = view->buf;
    if (item_count(view) != m->dim) return refuse("hidden has another size");
    if (!m->vocab) return 1;
    if (!(view = take_buffer(b, cache_array, OF_FLOAT32, "cache"))) return 0;
    *cache = view->buf, *tokens = item_count(view) / cache_width(m);
    if (item_count(view) % cache_width(m) || !*tokens || *tokens > max_tokens(m) - m->levels)
        return refuse("the cache is not the model's");
    return 1;
}

/* Search after hidden [D] and, of a Llama, its cache; or after a history, which is read first. */
static PyObject *find(PyObject *object, PyObject *args, int from_history) {
    const ModelObject *self = (ModelObject *)object;
    const Model *m = &self->model;
    PyObject *given, *given_cache, *first_child, *codes, *exclude, *bias, *rows, *scores;
    Py_ssize_t beam;
    int widen;
    if (!PyArg_ParseTuple(args, "OOOOOO&pOOO", &given, &given_cache, &first_child, &codes, &exclude, take_count, &beam, &widen,
                          &bias, &rows, &scores))
        return NULL;
    Buffers b = {.count = 0};
    Query query = {.sorted = NULL, .widen = widen};
    int32_t *history = NULL;
    const float *hidden = NULL, *cache = NULL;
    float *own = NULL; /* hidden and cache, where they are made here */
    size_t items = 0, tokens = 0, found = 0;
    int done = 0;
    if (!(from_history ? take_history(m, &b, given, 0, &history, &items)
                       : take_encoded(m, &b, given, given_cache, &hidden, &cache, &tokens)))
        goto out;
    if (!take_query(&b, first_child, codes, exclude, beam, bias, rows, scores, &query)) goto out;
    Py_BEGIN_ALLOW_THREADS
    done = 1;
    if (from_history) {
        tokens = fresh_tokens(m, items, 0);
        own = aligned_new(size_times(size_plus(m->dim, m->vocab ? size_times(tokens, cache_width(m)) : 0), sizeof(float)), 0);
        hidden = own, cache = own && m->vocab ? own + m->dim : NULL;
        done = own && self->kernels->encode(m, history, items, NULL, 0, own, m->vocab ? own + m->dim : NULL) == 0;
    }
    done = done && self->kernels->search(m, hidden, cache, tokens, &query.trie, query.beam, query.limit, query.widen,
                                         query.rows, query.scores, &found) == 0;
    aligned_free(own);
    Py_END_ALLOW_THREADS
    if (!done) PyErr_NoMemory();
out:
    free(history);
    free(query.sorted);
    release_buffers(&b);
    return done ? PyLong_FromSize_t(found) : NULL;
}

PyObject *model_search(PyObject *self, PyObject *args) { return find(self, args, 0); }
PyObject *model_encode_and_search(PyObject *self, PyObject *args) { return find(self, args, 1); }
