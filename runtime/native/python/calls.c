/* A model's calls from Python, of arrays: encode, search, and both in one.

   Everything that comes in is checked for type and size here, so that no call can read or write past a buffer. The lock of
   the interpreter is let go of while numbers are computed. */
#include "module.h"

#include <stdlib.h>
#include <string.h>

/* A history [N, L], its codes checked, that may be read after `before` tokens. */
static int take_history(const Model *m, Buffers *b, PyObject *array, size_t before, const int32_t **history, size_t *items) {
    Py_buffer *view = buffer(b, array, 4, 0);
    if (!view) return 0;
    size_t numbers = (size_t)view->len / 4;
    *history = view->buf;
    *items = numbers / m->levels;
    if (numbers % m->levels) return refuse("the history is not [items, levels]");
    if (*items > m->max_history || before + fresh_tokens(m, *items, before) > most_tokens(m) - (m->vocab ? m->levels + 1 : 0))
        return refuse("the history is longer than the model's");
    if (before && !*items) return refuse("there is nothing to read");
    for (size_t i = 0; i < numbers; i++)
        if ((*history)[i] < 0 || (size_t)(*history)[i] >= m->codes) return refuse("the history has a code out of range");
    return 1;
}

typedef struct {
    Trie trie;
    int32_t *sorted; /* of `exclude`, where it was not in order */
    size_t beam, most;
    int32_t *rows;
    float *scores;
} Ask;

static int take_ask(Buffers *b, PyObject *first_child, PyObject *codes, PyObject *exclude, Py_ssize_t beam,
                    PyObject *bias, PyObject *rows, PyObject *scores, Ask *ask) {
    Trie *trie = &ask->trie;
    Py_buffer *view;
    if (!(view = buffer(b, first_child, 4, 0))) return 0;
    trie->first_child = view->buf;
    if (view->len < 8) return refuse("the trie has no nodes");
    trie->internal = (size_t)view->len / 4 - 1;
    if (!(view = buffer(b, codes, 0, 0))) return 0;
    if (view->itemsize == 1) trie->codes8 = view->buf;
    else if (view->itemsize == 2) trie->codes16 = view->buf;
    else return refuse("codes are neither of 1 nor of 2 bytes");
    trie->nodes = (size_t)(view->len / view->itemsize);
    if (trie->nodes < trie->internal || trie->nodes > INT32_MAX) return refuse("the trie's arrays do not fit");
    if (!(view = buffer(b, exclude, 4, 0))) return 0;
    trie->exclude = view->buf;
    trie->excluded = (size_t)view->len / 4;
    if (bias != Py_None) {
        if (!(view = buffer(b, bias, 4, 0))) return 0;
        trie->bias = view->buf;
        if ((size_t)view->len != trie->nodes * 4) return refuse("there is not a bias for each node");
    }
    if (beam < 1) return refuse("the beam is below 1");
    ask->beam = (size_t)beam;
    if (!(view = buffer(b, rows, 4, 1))) return 0;
    ask->rows = view->buf;
    ask->most = (size_t)view->len / 4;
    if (ask->most < 1 || ask->most > ask->beam) return refuse("rows are none, or more than the beam");
    if (!(view = buffer(b, scores, 4, 1))) return 0;
    ask->scores = view->buf;
    if ((size_t)view->len != ask->most * 4) return refuse("there is not a score for each row");
    for (size_t i = 1; i < trie->excluded; i++) {
        if (trie->exclude[i - 1] <= trie->exclude[i]) continue;
        ask->sorted = malloc(trie->excluded * 4);
        if (!ask->sorted) return PyErr_NoMemory() != NULL;
        memcpy(ask->sorted, trie->exclude, trie->excluded * 4);
        qsort(ask->sorted, trie->excluded, 4, by_value);
        trie->exclude = ask->sorted;
        break;
    }
    return 1;
}

PyObject *model_encode(PyObject *object, PyObject *args) {
    const Model *m = &((ModelObject *)object)->model;
    PyObject *history_array, *past_array, *hidden_array, *present_array;
    if (!PyArg_ParseTuple(args, "OOOO", &history_array, &past_array, &hidden_array, &present_array)) return NULL;
    Buffers b = {.count = 0};
    const int32_t *history;
    size_t items, before = 0, token = m->layers * 2 * m->kv_heads * m->head_dim * 4;
    const float *past = NULL;
    float *present = NULL;
    Py_buffer *view;
    int done = 0;
    if (past_array != Py_None) {
        if (!(view = buffer(&b, past_array, 4, 0))) goto out;
        before = (size_t)view->len / token;
        if ((size_t)view->len % token) { refuse("the cache is not the model's"); goto out; }
        past = before ? view->buf : NULL;
    }
    if (!take_history(m, &b, history_array, before, &history, &items)) goto out;
    if (!(view = buffer(&b, hidden_array, 4, 1))) goto out;
    float *hidden = view->buf;
    if ((size_t)view->len != m->dim * 4) { refuse("hidden has another size"); goto out; }
    if (present_array != Py_None) {
        if (!(view = buffer(&b, present_array, 4, 1))) goto out;
        present = view->buf;
        if ((size_t)view->len != token * (before + fresh_tokens(m, items, before))) {
            refuse("present has another size");
            goto out;
        }
    }
    Py_BEGIN_ALLOW_THREADS
    done = ((ModelObject *)object)->kernels->encode(m, history, items, past, before, hidden, present) == 0;
    Py_END_ALLOW_THREADS
    if (!done) PyErr_NoMemory();
out:
    release(&b);
    if (!done) return NULL;
    Py_RETURN_NONE;
}

/* What is known before a search: h and, of a Llama, the cache; read here where a history is given. */
typedef struct {
    const int32_t *history;
    size_t items, tokens;
    const float *hidden, *cache;
    float *own; /* both, where they are made here */
} Known;

static int take_known(const Model *m, Buffers *b, PyObject *given, PyObject *cache, int from_history, Known *known) {
    size_t token = m->layers * 2 * m->kv_heads * m->head_dim;
    Py_buffer *view;
    if (from_history) {
        if (!take_history(m, b, given, 0, &known->history, &known->items)) return 0;
        known->tokens = fresh_tokens(m, known->items, 0);
        known->own = malloc((m->dim + (m->vocab ? known->tokens * token : 0)) * sizeof(float));
        if (!known->own) return PyErr_NoMemory() != NULL;
        known->hidden = known->own;
        known->cache = m->vocab ? known->own + m->dim : NULL;
        return 1;
    }
    if (!(view = buffer(b, given, 4, 0))) return 0;
    if ((size_t)view->len != m->dim * 4) return refuse("hidden has another size");
    known->hidden = view->buf;
    if (!m->vocab) return 1;
    if (!(view = buffer(b, cache, 4, 0))) return 0;
    known->cache = view->buf;
    known->tokens = (size_t)view->len / 4 / token;
    if ((size_t)view->len != known->tokens * token * 4 || !known->tokens || known->tokens + m->levels > most_tokens(m))
        return refuse("the cache is not the model's");
    return 1;
}

static PyObject *find(PyObject *object, PyObject *args, int from_history) {
    const ModelObject *self = (ModelObject *)object;
    const Model *m = &self->model;
    const Kernels *k = self->kernels;
    PyObject *given, *cache, *first_child, *codes, *exclude, *bias, *rows, *scores;
    Py_ssize_t beam;
    if (!PyArg_ParseTuple(args, "OOOOOnOOO", &given, &cache, &first_child, &codes, &exclude, &beam, &bias, &rows, &scores))
        return NULL;
    Buffers b = {.count = 0};
    Ask ask = {0};
    Known known = {0};
    size_t found = 0;
    int done = 0;
    if (take_known(m, &b, given, cache, from_history, &known) &&
        take_ask(&b, first_child, codes, exclude, beam, bias, rows, scores, &ask)) {
        Py_BEGIN_ALLOW_THREADS
        done = (!known.own || k->encode(m, known.history, known.items, NULL, 0, known.own,
                                        m->vocab ? known.own + m->dim : NULL) == 0) &&
               k->search(m, known.hidden, known.cache, known.tokens, &ask.trie, ask.beam, ask.most, ask.rows, ask.scores,
                         &found) == 0;
        Py_END_ALLOW_THREADS
        if (!done) PyErr_NoMemory();
    }
    free(known.own);
    free(ask.sorted);
    release(&b);
    return done ? PyLong_FromSize_t(found) : NULL;
}

PyObject *model_search(PyObject *self, PyObject *args) { return find(self, args, 0); }
PyObject *model_recommend(PyObject *self, PyObject *args) { return find(self, args, 1); }
