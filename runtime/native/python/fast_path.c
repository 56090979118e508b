/* From item ids to recommendations in one call, for the plainest case: a whole catalogue, all ids known, no further wishes.

   The rule is that of `Retrieval.best` in runtime/retrieval.py; whatever this cannot do gives None, and is left to it. */
#include "module.h"

#include <stdlib.h>
#include <string.h>

#include "items.h"

#define ABOVE 1e-3f /* what a log-probability may be above 0, and below it: as in runtime/engines/validate.py and recommender.py */
#define BELOW -1e9f

/* A catalogue's arrays, and the class of what is recommended. */
typedef struct {
    PyObject_HEAD
    Buffers buffers;
    Table table;
    const char *titles; /* or null */
    const int64_t *title_offsets;
    size_t title_bytes;
    const uint8_t *rows8; /* semantic IDs [n, L], in leaf order, which is the table's; this or the next is null */
    const uint16_t *rows16;
    size_t levels;
    Trie trie;
    PyObject *made; /* a NamedTuple of id, score and title */
} Catalogue;

static int take_catalogue(Catalogue *c, PyObject *index, PyObject *blob, PyObject *offsets, PyObject *titles,
                          PyObject *title_offsets, PyObject *rows, PyObject *first_child, PyObject *codes) {
    Buffers *b = &c->buffers;
    Py_buffer *view;
    if (!(view = buffer(b, index, 8, 0))) return 0;
    c->table.index = view->buf, c->table.items = (size_t)view->len / 8;
    if (!(view = buffer(b, blob, 1, 0))) return 0;
    c->table.blob = view->buf, c->table.bytes = (size_t)view->len;
    if (!(view = buffer(b, offsets, 8, 0))) return 0;
    c->table.offsets = view->buf;
    if ((size_t)view->len / 8 != c->table.items + 1) return refuse("there is not an offset for each id");
    if (titles != Py_None) {
        if (!(view = buffer(b, titles, 1, 0))) return 0;
        c->titles = view->buf, c->title_bytes = (size_t)view->len;
        if (!(view = buffer(b, title_offsets, 8, 0))) return 0;
        c->title_offsets = view->buf;
        if ((size_t)view->len / 8 != c->table.items + 1) return refuse("there is not an offset for each title");
    }
    if (!(view = buffer(b, rows, 0, 0))) return 0;
    if (view->itemsize == 1) c->rows8 = view->buf;
    else if (view->itemsize == 2) c->rows16 = view->buf;
    else return refuse("semantic IDs are neither of 1 nor of 2 bytes");
    c->levels = c->table.items ? (size_t)(view->len / view->itemsize) / c->table.items : 0;
    if (!c->levels || c->levels * c->table.items * (size_t)view->itemsize != (size_t)view->len)
        return refuse("there is not a semantic ID for each id");
    if (!(view = buffer(b, first_child, 4, 0))) return 0;
    c->trie.first_child = view->buf, c->trie.internal = (size_t)view->len / 4 - 1;
    if (view->len < 8) return refuse("the trie has no nodes");
    if (!(view = buffer(b, codes, c->rows8 ? 1 : 2, 0))) return 0;
    if (c->rows8) c->trie.codes8 = view->buf;
    else c->trie.codes16 = view->buf;
    c->trie.nodes = (size_t)(view->len / view->itemsize);
    return c->trie.nodes <= INT32_MAX && c->trie.nodes == c->trie.internal + c->table.items ? 1
                                                                                            : refuse("the trie has other leaves");
}

static PyObject *catalogue_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    PyObject *array[8], *made;
    if (keywords || !PyArg_ParseTuple(args, "OOOOOOOOO!", &array[0], &array[1], &array[2], &array[3], &array[4], &array[5],
                                      &array[6], &array[7], &PyType_Type, &made))
        return PyErr_Occurred() ? NULL : PyErr_Format(PyExc_TypeError, "Catalogue takes no names");
    if (!PyType_IsSubtype((PyTypeObject *)made, &PyTuple_Type)) return PyErr_Format(PyExc_TypeError, "not a tuple's class");
    Catalogue *self = (Catalogue *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->made = Py_NewRef(made);
    if (take_catalogue(self, array[0], array[1], array[2], array[3], array[4], array[5], array[6], array[7]))
        return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

static void catalogue_free(PyObject *object) {
    Catalogue *self = (Catalogue *)object;
    PyTypeObject *type = Py_TYPE(object);
    release(&self->buffers);
    Py_XDECREF(self->made);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *catalogue_leaf(PyObject *object, PyObject *id) {
    Py_ssize_t size = 0;
    const char *text = PyUnicode_Check(id) ? PyUnicode_AsUTF8AndSize(id, &size) : NULL;
    PyErr_Clear();
    return PyLong_FromLong(text && size ? row_of(&((Catalogue *)object)->table, text, size) : -1);
}

static PyMethodDef catalogue_methods[] = {
    {"leaf", catalogue_leaf, METH_O, "leaf(item_id)\n--\n\nThe leaf row of an item, -1 if there is none."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot catalogue_slots[] = {
    {Py_tp_doc, (void *)"Catalogue(index, id_bytes, id_offsets, titles, title_offsets, rows, first_child, codes, made)\n--\n\n"
                        "A whole catalogue's arrays, and the NamedTuple of id, score and title to make of its items."},
    {Py_tp_new, catalogue_new},
    {Py_tp_dealloc, catalogue_free},
    {Py_tp_methods, catalogue_methods},
    {0, NULL},
};

PyType_Spec catalogue_spec = {"pocketrec.runtime._native.Catalogue", sizeof(Catalogue), 0, Py_TPFLAGS_DEFAULT,
                              catalogue_slots};

/* Text `row` of a blob, or None where it is empty. */
static PyObject *text_of(const char *blob, size_t bytes, const int64_t *offsets, int32_t row) {
    int64_t begin = offsets[row], end = offsets[row + 1];
    if (begin < 0 || begin > end || (size_t)end > bytes) return PyErr_Format(PyExc_IndexError, "offsets do not fit");
    return begin == end ? Py_NewRef(Py_None) : PyUnicode_DecodeUTF8(blob + begin, end - begin, NULL);
}

static PyObject *item_of(const Catalogue *c, int32_t row, float score) {
    PyObject *id = text_of(c->table.blob, c->table.bytes, c->table.offsets, row), *number = PyFloat_FromDouble(score);
    PyObject *title = c->titles ? text_of(c->titles, c->title_bytes, c->title_offsets, row) : Py_NewRef(Py_None);
    PyObject *parts = id && number && title ? PyTuple_Pack(3, id, number, title) : NULL;
    PyObject *both = parts ? PyTuple_Pack(1, parts) : NULL;
    PyObject *item = both ? PyTuple_Type.tp_new((PyTypeObject *)c->made, both, NULL) : NULL;
    Py_XDECREF(both), Py_XDECREF(parts), Py_XDECREF(id), Py_XDECREF(number), Py_XDECREF(title);
    return item;
}

/* What a call works with: leaf rows of the history, oldest first, and the same, rising and each once, to leave out. */
typedef struct {
    size_t count, excluded, room;
    int32_t *leaves, *exclude, *sids, *found;
    float *scores, *hidden, *cache;
} Work;

static int room_for_work(const Model *m, Work *w, size_t count, size_t items, size_t tokens, size_t k) {
    size_t cache = m->vocab ? tokens * m->layers * 2 * m->kv_heads * m->head_dim : 0;
    w->leaves = malloc((2 * count + items * m->levels + k) * sizeof(int32_t) + (k + m->dim + cache) * sizeof(float) + 4);
    if (!w->leaves) return PyErr_NoMemory() != NULL;
    w->count = count, w->room = k;
    w->exclude = w->leaves + count, w->sids = w->exclude + count, w->found = w->sids + items * m->levels;
    w->scores = (float *)(w->found + k), w->hidden = w->scores + k, w->cache = w->hidden + m->dim;
    return 1;
}

/* Leaf rows of `count` ids; 0 where one is no text, or unknown, or the list has another length by now. */
static int find_leaves(const Catalogue *c, PyObject *ids, size_t count, int32_t *leaves) {
    size_t i = 0;
    Py_BEGIN_CRITICAL_SECTION(ids);
    for (; i < count && (size_t)PyList_GET_SIZE(ids) == count; i++) {
        PyObject *id = PyList_GET_ITEM(ids, (Py_ssize_t)i);
        Py_ssize_t size = 0;
        const char *text = PyUnicode_CheckExact(id) ? PyUnicode_AsUTF8AndSize(id, &size) : NULL;
        leaves[i] = text && size ? row_of(&c->table, text, size) : -1;
        if (leaves[i] < 0) break;
    }
    Py_END_CRITICAL_SECTION();
    PyErr_Clear();
    return i == count;
}

static void exclude_leaves(Work *w) {
    memcpy(w->exclude, w->leaves, w->count * sizeof(int32_t));
    qsort(w->exclude, w->count, sizeof(int32_t), by_value);
    for (size_t i = 0; i < w->count; i++)
        if (!i || w->exclude[i] != w->exclude[w->excluded - 1]) w->exclude[w->excluded++] = w->exclude[i];
}

/* Read the history, or take what was read; search; give the number found, −1 where memory is short. */
static int compute(const ModelObject *self, const Catalogue *c, const Work *w, size_t items, const float *hidden,
                   const float *cache, size_t tokens, size_t beam, size_t most, size_t *found) {
    const Model *m = &self->model;
    Trie trie = c->trie;
    trie.exclude = w->exclude, trie.excluded = w->excluded;
    if (!hidden) {
        if (self->kernels->encode(m, w->sids, items, NULL, 0, w->hidden, m->vocab ? w->cache : NULL)) return -1;
        hidden = w->hidden, cache = w->cache;
    }
    return self->kernels->search(m, hidden, cache, tokens, &trie, beam, most, w->found, w->scores, found);
}

static PyObject *answer(const ModelObject *self, const Catalogue *c, PyObject *ids, Buffers *b, PyObject *hidden,
                        PyObject *cache, PyObject *seen, size_t k, size_t beam, int exclude_seen, Work *w) {
    const Model *m = &self->model;
    size_t items = 0, tokens = 0, found = 0, token = m->layers * 2 * m->kv_heads * m->head_dim;
    const float *given = NULL, *read = NULL;
    Py_buffer *view;
    if (ids != Py_None) {
        size_t count = (size_t)PyList_GET_SIZE(ids);
        items = count < m->max_history ? count : m->max_history;
        tokens = fresh_tokens(m, items, 0);
        if (!room_for_work(m, w, count, items, tokens, k)) return NULL;
        if (!find_leaves(c, ids, count, w->leaves)) Py_RETURN_NONE;
        for (size_t i = 0; i < items * m->levels; i++) {
            size_t at = (size_t)w->leaves[count - items + i / m->levels] * m->levels + i % m->levels;
            w->sids[i] = c->rows8 ? c->rows8[at] : c->rows16[at];
            if ((size_t)w->sids[i] >= m->codes) Py_RETURN_NONE;
        }
    } else {
        if (!(view = buffer(b, hidden, 4, 0))) return NULL;
        given = view->buf;
        if ((size_t)view->len != m->dim * 4) return refuse("hidden has another size"), NULL;
        if (m->vocab) {
            if (!(view = buffer(b, cache, 4, 0))) return NULL;
            read = view->buf, tokens = (size_t)view->len / 4 / token;
            if ((size_t)view->len != tokens * token * 4 || !tokens || tokens + m->levels > most_tokens(m))
                return refuse("the cache is not the model's"), NULL;
        }
        if (!(view = buffer(b, seen, 4, 0)) || !room_for_work(m, w, (size_t)view->len / 4, 0, 0, k)) return NULL;
        memcpy(w->leaves, view->buf, (size_t)view->len);
        for (size_t i = 0; i < w->count; i++)
            if (w->leaves[i] < 0 || (size_t)w->leaves[i] >= c->table.items) return refuse("there is no such leaf"), NULL;
    }
    if (exclude_seen) exclude_leaves(w);
    size_t wanted = k < c->table.items - w->excluded ? k : c->table.items - w->excluded;
    size_t width = beam > wanted ? beam : wanted, most = wanted;
    int failed = 0;
    if (width > c->trie.nodes) width = c->trie.nodes;
    if (wanted) {
        Py_BEGIN_ALLOW_THREADS
        failed = compute(self, c, w, items, given, read, tokens, width, most, &found);
        Py_END_ALLOW_THREADS
    }
    if (failed) return PyErr_NoMemory();
    if (found < wanted) Py_RETURN_NONE; /* a wider search may find more */
    if (found && !(w->scores[0] <= ABOVE && w->scores[found - 1] >= BELOW)) Py_RETURN_NONE;
    PyObject *out = PyList_New((Py_ssize_t)found);
    for (size_t i = 0; out && i < found; i++) {
        PyObject *item = item_of(c, w->found[i], w->scores[i]);
        if (item) PyList_SET_ITEM(out, (Py_ssize_t)i, item);
        else Py_CLEAR(out);
    }
    return out;
}

PyObject *model_answer(PyObject *object, PyObject *args) {
    const ModelObject *self = (ModelObject *)object;
    PyObject *catalogue, *ids, *hidden, *cache, *seen;
    Py_ssize_t k, beam;
    int exclude_seen;
    if (!PyArg_ParseTuple(args, "OOOOOnnp", &catalogue, &ids, &hidden, &cache, &seen, &k, &beam, &exclude_seen)) return NULL;
    const Catalogue *c = (Catalogue *)catalogue;
    if (Py_TYPE(catalogue)->tp_dealloc != catalogue_free || c->levels != self->model.levels)
        return refuse("this is not a catalogue of the model's"), NULL;
    if (k < 1 || beam < 1 || (size_t)k > c->trie.nodes || (ids != Py_None && !PyList_CheckExact(ids))) Py_RETURN_NONE;
    Buffers b = {.count = 0};
    Work w = {0};
    PyObject *out = answer(self, c, ids, &b, hidden, cache, seen, (size_t)k, (size_t)beam, exclude_seen, &w);
    free(w.leaves);
    release(&b);
    return out;
}
