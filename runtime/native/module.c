/* pocketrec.runtime._native: a student's encoder and search as one Python object. runtime/engines/native.py calls it.

   Everything that comes in is checked for type and size here, so that no call can read or write past a buffer. The lock of
   the interpreter is let go of while numbers are computed; a Model never changes, so any threads may share it. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "items.h"
#include "model.h"

typedef struct {
    PyObject_HEAD
    Model model;
    const Kernels *kernels;
    void **rooms; /* what `model` points to */
    size_t room_count;
} ModelObject;

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
static int has_dotprod(void) { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
#elif defined(__aarch64__)
static int has_dotprod(void) { return 1; } /* all of Apple's and Microsoft's */
#endif

static const Kernels *const *available(void) {
    static const Kernels *list[5];
    size_t n = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    int wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (wide) list[n++] = &kernels_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) list[n++] = &kernels_avx2;
#endif
    list[n++] = &kernels_plain;
#if defined(__x86_64__)
    if (wide && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni")) list[n++] = &kernels_avx512_int8;
#elif defined(__aarch64__)
    if (has_dotprod()) list[n++] = &kernels_neon_int8;
#endif
    list[n] = NULL;
    return list;
}

/* --- taking a model's tensors ------------------------------------------------------------------------------------ */

typedef struct {
    ModelObject *self;
    PyObject *tensors; /* a tuple, taken from in order */
    Py_ssize_t next;
    int failed; /* with a Python error set */
} Taking;

/* Zeroed room for `count` numbers, freed with the model. */
static void *room_for(Taking *t, size_t count) {
    ModelObject *self = t->self;
    if (t->failed) return NULL;
    void **rooms = realloc(self->rooms, (self->room_count + 1) * sizeof(void *));
    if (rooms) self->rooms = rooms;
    size_t bytes = (count * 4 + 63) / 64 * 64;
    void *room = rooms && count <= PY_SSIZE_T_MAX / 8 ? aligned_alloc(64, bytes ? bytes : 64) : NULL;
    if (!room) {
        PyErr_NoMemory();
        t->failed = 1;
        return NULL;
    }
    memset(room, 0, bytes);
    self->rooms[self->room_count++] = room;
    return room;
}

/* The next tensor, which must have `count` numbers of 4 bytes. Whoever gets a buffer releases it. */
static int take(Taking *t, size_t count, Py_buffer *view) {
    if (t->failed) return 0;
    PyObject *array = t->next < PyTuple_GET_SIZE(t->tensors) ? PyTuple_GET_ITEM(t->tensors, t->next) : NULL;
    if (!array || PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "too few tensors");
        t->failed = 1;
        return 0;
    }
    if (view->itemsize != 4 || (size_t)view->len != count * 4) {
        PyErr_Format(PyExc_ValueError, "tensor %zd has %zd bytes, not %zu", t->next, view->len, count * 4);
        PyBuffer_Release(view);
        t->failed = 1;
        return 0;
    }
    t->next++;
    return 1;
}

/* A tensor of `rows` rows, each padded; the padding holds `fill`. */
static void *take_rows(Taking *t, size_t rows, size_t width, float fill) {
    Py_buffer view;
    size_t ld = padded(width);
    float *to = room_for(t, rows * ld);
    if (!to || !take(t, rows * width, &view)) return NULL;
    for (size_t r = 0; r < rows; r++) {
        memcpy(to + r * ld, (const float *)view.buf + r * width, width * 4);
        for (size_t i = width; i < ld; i++) to[r * ld + i] = fill;
    }
    PyBuffer_Release(&view);
    return to;
}

/* A tensor as it is. */
static void *take_plain(Taking *t, size_t count) {
    Py_buffer view;
    void *to = room_for(t, count);
    if (!to || !take(t, count, &view)) return NULL;
    memcpy(to, view.buf, count * 4);
    PyBuffer_Release(&view);
    return to;
}

/* Round a matrix's columns to whole numbers, a scale for each. */
static void take_whole(Taking *t, const float *from, Linear *out) {
    size_t k = out->k, n = out->n, panel = t->self->kernels->panel, steps = (k + 3) / 4;
    out->bytes = room_for(t, steps * padded(n));
    out->scale = room_for(t, padded(n));
    out->offset = room_for(t, padded(n));
    if (!t->failed && k > MOST_BYTES) {
        PyErr_SetString(PyExc_ValueError, "a matrix has too many rows for whole numbers");
        t->failed = 1;
    }
    if (t->failed) return;
    for (size_t column = 0; column < n; column++) {
        float peak = 0.0f;
        for (size_t row = 0; row < k; row++) peak = fmaxf(peak, fabsf(from[row * n + column]));
        float scale = peak / 127.0f, inverse = peak > 0.0f ? 127.0f / peak : 0.0f;
        int32_t sum = 0;
        for (size_t row = 0; row < k; row++) {
            int8_t value = (int8_t)lrintf(from[row * n + column] * inverse);
            out->bytes[((column / panel * steps + row / 4) * panel + column % panel) * 4 + row % 4] = value;
            sum += value;
        }
        out->scale[column] = scale;
        out->offset[column] = -128 * sum;
    }
}

/* A matrix [k, n] in panels. */
static Linear take_linear(Taking *t, size_t k, size_t n) {
    Py_buffer view;
    size_t panel = t->self->kernels->panel;
    Linear out = {.k = k, .n = n};
    if (!take(t, k * n, &view)) return out;
    const float *from = view.buf;
    if (t->self->kernels->whole) take_whole(t, from, &out);
    else if ((out.panels = room_for(t, k * padded(n))))
        for (size_t column = 0; column < n; column++)
            for (size_t row = 0; row < k; row++)
                out.panels[(column / panel * k + row) * panel + column % panel] = from[row * n + column];
    PyBuffer_Release(&view);
    return out;
}

static void take_pairs(Taking *t, Model *m) {
    m->pair_keys = take_plain(t, m->pairs);
    m->pair_table = take_rows(t, 1 + m->pairs, m->pair_dim, 0.0f);
    m->pair_into = take_linear(t, m->pair_dim, m->dim);
    m->pair_query = take_linear(t, m->dim, m->pair_dim);
    m->pair_begin = room_for(t, m->codes + 1);
    if (t->failed) return;
    size_t at = 0;
    for (size_t code = 0; code <= m->codes; code++) {
        while (at < m->pairs && (size_t)m->pair_keys[at] < code * m->codes) at++;
        m->pair_begin[code] = (int32_t)at;
    }
    for (size_t i = 0; i < m->pairs; i++) {
        if (m->pair_keys[i] < 0 || (size_t)m->pair_keys[i] >= m->codes * m->codes ||
            (i && m->pair_keys[i] <= m->pair_keys[i - 1])) {
            PyErr_SetString(PyExc_ValueError, "pair keys do not rise, or are out of range");
            t->failed = 1;
            return;
        }
    }
}

/* A bias, where the next tensor is not None. */
static float *take_bias(Taking *t, size_t width) {
    int none = t->next < PyTuple_GET_SIZE(t->tensors) && PyTuple_GET_ITEM(t->tensors, t->next) == Py_None;
    t->next += none;
    return none ? NULL : take_rows(t, 1, width, 0.0f);
}

static void take_blocks(Taking *t, Model *m) {
    size_t queries = m->heads * m->head_dim, keys = 2 * m->kv_heads * m->head_dim;
    m->norm = take_plain(t, m->dim);
    m->cos = take_plain(t, most_tokens(m) * m->head_dim);
    m->sin = take_plain(t, most_tokens(m) * m->head_dim);
    m->block = room_for(t, m->blocks * sizeof(Block) / 4);
    for (size_t i = 0; i < m->blocks && !t->failed; i++) {
        Block *b = &m->block[i];
        b->q = take_linear(t, m->dim, queries), b->q_bias = take_bias(t, queries);
        b->kv = take_linear(t, m->dim, keys), b->kv_bias = take_bias(t, keys);
        b->o = take_linear(t, queries, m->dim), b->o_bias = take_bias(t, m->dim);
        b->gate_up = take_linear(t, m->dim, 2 * m->ffn), b->gate_up_bias = take_bias(t, 2 * m->ffn);
        b->down = take_linear(t, m->ffn, m->dim), b->down_bias = take_bias(t, m->dim);
    }
}

static void take_llama(Taking *t, Model *m) {
    size_t places = m->levels * m->codes;
    m->token = take_plain(t, places);
    m->place = take_rows(t, places + (m->prompt ? m->prompt : 1), m->dim, 0.0f);
    m->head = take_linear(t, m->dim, m->vocab);
    m->head_bias = room_for(t, padded(m->vocab));
    if (t->failed) return;
    for (size_t i = m->vocab; i < padded(m->vocab); i++) m->head_bias[i] = -INFINITY;
    for (size_t i = 0; i < places; i++)
        if (m->token[i] < 0 || (size_t)m->token[i] >= m->vocab) {
            PyErr_SetString(PyExc_ValueError, "tokens are out of range");
            t->failed = 1;
            return;
        }
}

static void take_student(Taking *t, Model *m) {
    m->start = take_rows(t, 1, m->dim, 0.0f);
    for (size_t level = 0; level < m->levels; level++) m->embed[level] = take_rows(t, m->codes, m->dim, 0.0f);
    m->hidden = take_linear(t, m->dim, m->levels * m->middle);
    m->hidden_bias = take_rows(t, 1, m->levels * m->middle, 0.0f);
    m->level = room_for(t, m->levels * sizeof(Level) / 4);
    for (size_t level = 0; level < m->levels && !t->failed; level++) {
        Level *to = &m->level[level];
        to->out = take_linear(t, m->middle, m->codes);
        to->out_bias = take_rows(t, 1, m->codes, -INFINITY);
        for (size_t earlier = 0; earlier < level; earlier++) to->table[earlier] = take_rows(t, m->codes, m->middle, 0.0f);
        if (m->pair_dim && level > 1) to->pair = take_linear(t, m->pair_dim, m->middle);
    }
    if (m->pair_dim) take_pairs(t, m);
}

/* Take all tensors, in the order that runtime/engines/native.py gives them. */
static void take_all(Taking *t) {
    Model *m = &t->self->model;
    take_blocks(t, m);
    if (m->vocab) take_llama(t, m);
    else take_student(t, m);
    if (!t->failed && t->next != PyTuple_GET_SIZE(t->tensors)) {
        PyErr_SetString(PyExc_ValueError, "too many tensors");
        t->failed = 1;
    }
}

static int check_sizes(const Model *m) {
    size_t most = (size_t)1 << 24, each[] = {
        m->levels, m->codes, m->dim, m->layers, m->blocks, m->heads, m->kv_heads, m->head_dim, m->ffn, m->max_history,
        m->vocab ? m->vocab : m->middle,
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++)
        if (each[i] < 1 || each[i] > most) return 0;
    return m->levels <= MAX_LEVELS && m->blocks <= m->layers && m->heads % m->kv_heads == 0 && m->head_dim % 2 == 0 &&
           m->codes <= 65536 && m->pair_dim <= most && m->pairs <= most && (!m->pair_dim || m->codes <= 4096) &&
           m->middle <= most && m->vocab <= most && m->prompt <= (m->vocab ? most : 0) && m->heads * m->head_dim <= most;
}

static PyObject *model_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"sizes", "eps", "tensors", "kernels", NULL};
    PyObject *tensors;
    const char *wanted = NULL;
    Model m = {0};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "(nnnnnnnnnnnnnnn)fO!|z", names, &m.levels, &m.codes, &m.dim, &m.layers,
                                     &m.blocks, &m.heads, &m.kv_heads, &m.head_dim, &m.ffn, &m.middle, &m.pair_dim, &m.pairs,
                                     &m.max_history, &m.vocab, &m.prompt, &m.eps, &PyTuple_Type, &tensors, &wanted))
        return NULL;
    const Kernels *const *list = available();
    while (*list && wanted && strcmp((*list)->name, wanted)) list++;
    if (!*list || !check_sizes(&m)) {
        PyErr_SetString(PyExc_ValueError, *list ? "sizes out of range" : "this processor has no such kernels");
        return NULL;
    }
    ModelObject *self = (ModelObject *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->model = m;
    self->kernels = *list;
    Taking taking = {self, tensors, 0, 0};
    take_all(&taking);
    if (taking.failed) {
        Py_DECREF(self);
        return NULL;
    }
    return (PyObject *)self;
}

static void model_free(PyObject *object) {
    ModelObject *self = (ModelObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    for (size_t i = 0; i < self->room_count; i++) free(self->rooms[i]);
    free(self->rooms);
    type->tp_free(object);
    Py_DECREF(type);
}

/* --- calls ------------------------------------------------------------------------------------------------------- */

typedef struct {
    Py_buffer view[8];
    int count;
} Buffers;

static void release(Buffers *b) {
    while (b->count) PyBuffer_Release(&b->view[--b->count]);
}

/* The next argument's numbers, of `size` bytes each; NULL with an error set where it has others. */
static Py_buffer *buffer(Buffers *b, PyObject *array, Py_ssize_t size, int writable) {
    Py_buffer *view = &b->view[b->count];
    if (PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) < 0) return NULL;
    b->count++;
    if (size && view->itemsize != size) {
        PyErr_Format(PyExc_TypeError, "an array has items of %zd bytes, not %zd", view->itemsize, size);
        return NULL;
    }
    return view;
}

static int refuse(const char *why) {
    PyErr_SetString(PyExc_ValueError, why);
    return 0;
}

/* A history and what is to be read after; `fresh` is what the cache will hold in all. */
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

static int by_value(const void *a, const void *b) {
    int32_t left = *(const int32_t *)a, right = *(const int32_t *)b;
    return (left > right) - (left < right);
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

PyDoc_STRVAR(encode_doc, "encode(history, past, hidden, present)\n--\n\n"
                         "Read int32 [N, L] after past, float32 [layers, 2, G, P, d] or None; fills hidden [D] and, where it\n"
                         "is not None, present [layers, 2, G, S, d].");

static PyObject *model_encode(PyObject *object, PyObject *args) {
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

PyDoc_STRVAR(search_doc, "search(hidden, cache, first_child, codes, exclude, beam, bias, rows, scores)\n--\n\n"
                         "Find the best leaves after hidden [D], and after the cache that `encode` gave, which a student does\n"
                         "not need; fills rows and scores, at most beam long, and returns how many there are.");

PyDoc_STRVAR(recommend_doc, "recommend(history, unused, first_child, codes, exclude, beam, bias, rows, scores)\n--\n\n"
                            "Read int32 [N, L] and search; as `search`.");

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

static PyObject *model_search(PyObject *self, PyObject *args) { return find(self, args, 0); }
static PyObject *model_recommend(PyObject *self, PyObject *args) { return find(self, args, 1); }

static PyObject *model_kernels(PyObject *self, void *unused) {
    (void)unused;
    return PyUnicode_FromString(((ModelObject *)self)->kernels->name);
}

static PyMethodDef model_methods[] = {
    {"encode", model_encode, METH_VARARGS, encode_doc},
    {"search", model_search, METH_VARARGS, search_doc},
    {"recommend", model_recommend, METH_VARARGS, recommend_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef model_properties[] = {
    {"kernels", model_kernels, NULL, "Name of the instruction set that is used.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot model_slots[] = {
    {Py_tp_doc, (void *)"Model(sizes, eps, tensors, kernels=None)\n--\n\nA student, its weights copied and laid out."},
    {Py_tp_new, model_new},
    {Py_tp_dealloc, model_free},
    {Py_tp_methods, model_methods},
    {Py_tp_getset, model_properties},
    {0, NULL},
};

static PyType_Spec model_spec = {"pocketrec.runtime._native.Model", sizeof(ModelObject), 0, Py_TPFLAGS_DEFAULT, model_slots};

PyDoc_STRVAR(kernels_doc, "kernels()\n--\n\nNames of the instruction sets that this processor has kernels for, the best first.");

static PyObject *module_kernels(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    PyObject *out = PyList_New(0);
    for (const Kernels *const *k = available(); out && *k; k++) {
        PyObject *name = PyUnicode_FromString((*k)->name);
        if (!name || PyList_Append(out, name) < 0) Py_CLEAR(out);
        Py_XDECREF(name);
    }
    return out;
}

static PyMethodDef module_methods[] = {
    {"kernels", module_kernels, METH_NOARGS, kernels_doc},
    {"find", find_rows, METH_VARARGS, "find(ids, index, id_bytes, id_offsets, rows)\n--\n\nFill rows int32 [n]; see items.h."},
    {"texts", texts_of, METH_VARARGS, "texts(rows, blob, offsets)\n--\n\nThe texts of rows int32 [n]."},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module) {
    PyObject *type = PyType_FromSpec(&model_spec);
    if (!type) return -1;
    int failed = PyModule_AddType(module, (PyTypeObject *)type);
    Py_DECREF(type);
    return failed;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, "pocketrec.runtime._native", "The student's encoder and search in C.", 0, module_methods,
    module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&module_definition); }
