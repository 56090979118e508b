/* How a model's tensors are laid out for the kernels that compute with them.

   All buffers are taken first. Without the interpreter's lock, the tensors are then read in a fixed order, each checked for
   its type and size, copied, padded and arranged. Nothing of Python's is kept. */
#include "module.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Errors that raise_error puts into words. */
static const char no_memory[] = "memory", wrong_type[] = "type", wrong_size[] = "size";

typedef struct {
    ModelObject *self;
    Py_buffer *views; /* of the tensors, in order; without `obj` where there is None */
    size_t count, next;
    const char *error; /* the first, of the tensor before `next`; raised when the lock is held again; NULL: none so far */
    ItemType wanted_type;
    size_t wanted; /* numbers */
} Loader;

static void fail(Loader *l, const char *error) {
    if (!l->error) l->error = error;
}

/* Zeroed memory for rows · width items of `size` bytes, freed with the model. */
static void *new_array(Loader *l, size_t rows, size_t width, size_t size) {
    ModelObject *self = l->self;
    if (l->error) return NULL;
    void **arrays = realloc(self->arrays, (self->array_count + 1) * sizeof(void *));
    if (arrays) self->arrays = arrays;
    void *array = arrays ? aligned_new(size_times(size_times(rows, width), size), 1) : NULL;
    if (array) self->arrays[self->array_count++] = array;
    else fail(l, no_memory);
    return array;
}

/* The next tensor, which must have rows · width numbers of 4 bytes; NULL where it does not, or something failed before. */
static const void *next_tensor(Loader *l, size_t rows, size_t width, ItemType type) {
    if (l->error) return NULL;
    l->wanted = size_times(rows, width), l->wanted_type = type;
    const Py_buffer *view = l->next++ < l->count ? &l->views[l->next - 1] : NULL;
    if (!view || !view->obj) fail(l, "is missing");
    else if (!has_type(view, type) || (uintptr_t)view->buf % 4) fail(l, wrong_type);
    else if ((size_t)view->len / 4 != l->wanted) fail(l, wrong_size);
    return l->error ? NULL : view->buf;
}

/* A tensor of `rows` rows, each padded; the padding holds `fill`. */
static float *take_rows(Loader *l, size_t rows, size_t width, float fill) {
    size_t ld = padded(width);
    const float *from = next_tensor(l, rows, width, OF_FLOAT32);
    float *to = new_array(l, rows, ld, sizeof(float));
    if (!to) return NULL;
    for (size_t r = 0; r < rows; r++) {
        memcpy(to + r * ld, from + r * width, width * sizeof(float));
        for (size_t i = width; i < ld; i++) to[r * ld + i] = fill;
    }
    return to;
}

/* A tensor as it is. */
static void *take_array(Loader *l, size_t rows, size_t width, ItemType type) {
    const void *from = next_tensor(l, rows, width, type);
    void *to = new_array(l, rows, width, 4);
    if (to && rows) memcpy(to, from, rows * width * 4);
    return to;
}

/* Round a matrix's columns to int8, a scale for each. */
static void lay_out_int8(Loader *l, const float *from, Linear *out) {
    size_t k = out->k, n = out->n, panel = l->self->kernels->panel, steps = (k + 3) / 4;
    if (k > INT8_MAX_ROWS) fail(l, "has too many rows for int8");
    out->bytes = new_array(l, steps, padded(n), 4);
    out->scale = new_array(l, padded(n), 1, sizeof(float));
    out->offset = new_array(l, padded(n), 1, sizeof(int32_t));
    if (l->error) return;
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

static void lay_out_float32(Loader *l, const float *from, Linear *out) {
    size_t k = out->k, n = out->n, panel = l->self->kernels->panel;
    out->panels = new_array(l, k, padded(n), sizeof(float));
    if (l->error) return;
    for (size_t column = 0; column < n; column += panel) {
        size_t width = n - column < panel ? n - column : panel;
        float *to = out->panels + column * k;
        for (size_t row = 0; row < k; row++) memcpy(to + row * panel, from + row * n + column, width * sizeof(float));
    }
}

/* A matrix [k, n] in panels. */
static Linear take_linear(Loader *l, size_t k, size_t n) {
    Linear out = {.k = k, .n = n};
    const float *from = next_tensor(l, k, n, OF_FLOAT32);
    if (!from) return out;
    if (l->self->kernels->int8) lay_out_int8(l, from, &out);
    else lay_out_float32(l, from, &out);
    return out;
}

static void take_pairs(Loader *l, Model *m) {
    m->pair_keys = take_array(l, m->pairs, 1, OF_INT32);
    for (size_t i = 0; i < m->pairs && !l->error; i++)
        if (m->pair_keys[i] < 0 || (size_t)m->pair_keys[i] >= m->codes * m->codes || (i && m->pair_keys[i] <= m->pair_keys[i - 1]))
            fail(l, "has pair keys that are out of range, or do not rise");
    m->pair_table = take_rows(l, 1 + m->pairs, m->pair_dim, 0.0f);
    m->pair_into = take_linear(l, m->pair_dim, m->dim);
    m->pair_query = take_linear(l, m->dim, m->pair_dim);
    m->pair_begin = new_array(l, m->codes + 1, 1, sizeof(int32_t));
    if (l->error) return;
    size_t at = 0;
    for (size_t code = 0; code <= m->codes; code++) {
        while (at < m->pairs && (size_t)m->pair_keys[at] < code * m->codes) at++;
        m->pair_begin[code] = (int32_t)at;
    }
}

/* A bias, where the next tensor is not None. */
static float *take_bias(Loader *l, size_t width) {
    int none = l->next < l->count && !l->views[l->next].obj;
    l->next += (size_t)none;
    return none ? NULL : take_rows(l, 1, width, 0.0f);
}

static void take_blocks(Loader *l, Model *m) {
    size_t queries = m->heads * m->head_dim, keys = 2 * m->kv_heads * m->head_dim;
    m->norm = take_array(l, 1, m->dim, OF_FLOAT32);
    m->cos = take_array(l, max_tokens(m), m->head_dim, OF_FLOAT32);
    m->sin = take_array(l, max_tokens(m), m->head_dim, OF_FLOAT32);
    m->block = new_array(l, m->blocks, 1, sizeof(Block));
    for (size_t i = 0; i < m->blocks && !l->error; i++) {
        Block *b = &m->block[i];
        b->q = take_linear(l, m->dim, queries), b->q_bias = take_bias(l, queries);
        b->kv = take_linear(l, m->dim, keys), b->kv_bias = take_bias(l, keys);
        b->o = take_linear(l, queries, m->dim), b->o_bias = take_bias(l, m->dim);
        b->gate_up = take_linear(l, m->dim, 2 * m->ffn), b->gate_up_bias = take_bias(l, 2 * m->ffn);
        b->down = take_linear(l, m->ffn, m->dim), b->down_bias = take_bias(l, m->dim);
    }
}

static void take_llama(Loader *l, Model *m) {
    size_t places = m->levels * m->codes;
    m->token = take_array(l, places, 1, OF_INT32);
    for (size_t i = 0; i < places && !l->error; i++)
        if (m->token[i] < 0 || (size_t)m->token[i] >= m->vocab) fail(l, "has tokens that are out of range");
    m->place = take_rows(l, places + (m->prompt ? m->prompt : 1), m->dim, 0.0f);
    m->head = take_linear(l, m->dim, m->vocab);
    m->head_bias = new_array(l, padded(m->vocab), 1, sizeof(float));
    if (l->error) return;
    for (size_t i = m->vocab; i < padded(m->vocab); i++) m->head_bias[i] = -INFINITY;
}

static void take_student(Loader *l, Model *m) {
    m->start = take_rows(l, 1, m->dim, 0.0f);
    for (size_t level = 0; level < m->levels; level++) m->embed[level] = take_rows(l, m->codes, m->dim, 0.0f);
    m->hidden = take_linear(l, m->dim, m->levels * m->middle);
    m->hidden_bias = take_rows(l, 1, m->levels * m->middle, 0.0f);
    m->level = new_array(l, m->levels, 1, sizeof(Level));
    for (size_t level = 0; level < m->levels && !l->error; level++) {
        Level *to = &m->level[level];
        to->out = take_linear(l, m->middle, m->codes);
        to->out_bias = take_rows(l, 1, m->codes, -INFINITY);
        for (size_t earlier = 0; earlier < level; earlier++) to->table[earlier] = take_rows(l, m->codes, m->middle, 0.0f);
        if (m->pair_dim && level > 1) to->pair = take_linear(l, m->pair_dim, m->middle);
    }
    if (m->pair_dim) take_pairs(l, m);
}

/* Take all tensors, in the order that runtime/engines/native.py gives them. */
static void take_all(Loader *l) {
    Model *m = &l->self->model;
    take_blocks(l, m);
    if (m->vocab) take_llama(l, m);
    else take_student(l, m);
    if (!l->error && l->next++ != l->count) fail(l, "is one too many");
}

static int check_sizes(const Model *m) {
    size_t limit = (size_t)1 << 24, each[] = {
        m->levels, m->codes, m->dim, m->layers, m->blocks, m->heads, m->kv_heads, m->head_dim, m->ffn, m->max_history,
        m->vocab ? m->vocab : m->middle,
    };
    for (size_t i = 0; i < sizeof each / sizeof *each; i++)
        if (each[i] < 1 || each[i] > limit) return 0;
    size_t cache = size_times(size_times(m->layers, 2 * m->kv_heads), size_times(m->head_dim, sizeof(float)));
    return m->levels <= MAX_LEVELS && m->blocks <= m->layers && m->heads % m->kv_heads == 0 && m->head_dim % 2 == 0 &&
           m->codes <= 65536 && m->pair_dim <= limit && m->pairs <= limit && (!m->pair_dim || m->codes <= 4096) &&
           m->middle <= limit && m->vocab <= limit && m->prompt <= (m->vocab ? limit : 0) &&
           size_times(m->heads, m->head_dim) <= limit && cache <= PTRDIFF_MAX;
}

static int take_views(Loader *l, PyObject *tensors) {
    size_t count = (size_t)PyTuple_GET_SIZE(tensors);
    l->views = PyMem_Calloc(count, sizeof(Py_buffer));
    if (!l->views) return PyErr_NoMemory() != NULL;
    for (; l->count < count; l->count++) {
        PyObject *tensor = PyTuple_GET_ITEM(tensors, (Py_ssize_t)l->count);
        if (tensor != Py_None && PyObject_GetBuffer(tensor, &l->views[l->count], PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) return 0;
    }
    return 1;
}

static void raise_error(const Loader *l) {
    size_t number = l->next - 1;
    const Py_buffer *view = number < l->count ? &l->views[number] : NULL;
    if (l->error == no_memory) PyErr_NoMemory();
    else if (l->error == wrong_size)
        PyErr_Format(PyExc_ValueError, "tensor %zu has %zu numbers, not %zu", number, (size_t)view->len / 4, l->wanted);
    else if (l->error == wrong_type)
        PyErr_Format(PyExc_ValueError, "tensor %zu has the type '%s', or is not aligned; it must be %s", number,
                     view->format ? view->format : "B", type_name(l->wanted_type));
    else PyErr_Format(PyExc_ValueError, "tensor %zu %s", number, l->error);
}

PyObject *model_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    static char *names[] = {"sizes", "eps", "tensors", "kernels", NULL};
    PyObject *tensors;
    const char *name = NULL;
    Model m = {0};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "(nnnnnnnnnnnnnnn)fO!|z", names, &m.levels, &m.codes, &m.dim, &m.layers,
                                     &m.blocks, &m.heads, &m.kv_heads, &m.head_dim, &m.ffn, &m.middle, &m.pair_dim, &m.pairs,
                                     &m.max_history, &m.vocab, &m.prompt, &m.eps, &PyTuple_Type, &tensors, &name))
        return NULL;
    const Kernels *list[KERNELS_LIMIT];
    size_t count = available_kernels(list), chosen = 0;
    while (chosen < count && name && strcmp(list[chosen]->name, name)) chosen++;
    if (chosen == count) return refuse("this processor has no such kernels"), NULL;
    if (!check_sizes(&m)) return refuse("sizes are out of range"), NULL;
    ModelObject *self = (ModelObject *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->model = m;
    self->kernels = list[chosen];
    Loader loader = {.self = self};
    int taken = take_views(&loader, tensors);
    if (taken) {
        Py_BEGIN_ALLOW_THREADS
        take_all(&loader);
        Py_END_ALLOW_THREADS
        if (loader.error) raise_error(&loader);
    }
    while (loader.count) PyBuffer_Release(&loader.views[--loader.count]);
    PyMem_Free(loader.views);
    if (taken && !loader.error) return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

void model_free(PyObject *object) {
    ModelObject *self = (ModelObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    for (size_t i = 0; i < self->array_count; i++) aligned_free(self->arrays[i]);
    free(self->arrays);
    type->tp_free(object);
    Py_DECREF(type);
}
