/* Which kernels there are here, and how a model's tensors are laid out for them.

   A model takes its tensors in a fixed order, each checked for its size, copies them, and pads and arranges them; nothing of
   Python's is kept. */
#include "module.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
static int has_dotprod(void) { return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0; }
#elif defined(__aarch64__)
static int has_dotprod(void) { return 1; } /* all of Apple's and Microsoft's */
#endif

const Kernels *const *available_kernels(void) {
    static const Kernels *list[5];
    size_t n = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    int wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (wide) list[n++] = &kernels_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) list[n++] = &kernels_avx2;
#endif
    list[n++] = &kernels_portable;
#if defined(__x86_64__)
    if (wide && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni")) list[n++] = &kernels_avx512_int8;
#elif defined(__aarch64__)
    if (has_dotprod()) list[n++] = &kernels_neon_int8;
#endif
    list[n] = NULL;
    return list;
}

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

PyObject *model_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"sizes", "eps", "tensors", "kernels", NULL};
    PyObject *tensors;
    const char *wanted = NULL;
    Model m = {0};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "(nnnnnnnnnnnnnnn)fO!|z", names, &m.levels, &m.codes, &m.dim, &m.layers,
                                     &m.blocks, &m.heads, &m.kv_heads, &m.head_dim, &m.ffn, &m.middle, &m.pair_dim, &m.pairs,
                                     &m.max_history, &m.vocab, &m.prompt, &m.eps, &PyTuple_Type, &tensors, &wanted))
        return NULL;
    const Kernels *const *list = available_kernels();
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

void model_free(PyObject *object) {
    ModelObject *self = (ModelObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    for (size_t i = 0; i < self->room_count; i++) free(self->rooms[i]);
    free(self->rooms);
    type->tp_free(object);
    Py_DECREF(type);
}
