/* Crowd and words from Python: see fusion.h. Lengths are checked here, once; indices where they are read. */
#include "fusion.h"

#include <stdlib.h>
#include <string.h>

/* Buffer `at` of a tuple, of `wanted` items; SIZE_MAX: any number. NULL with an error set. */
static const void *take_part(Buffers *b, PyObject *tuple, Py_ssize_t at, ItemType type, size_t wanted, const char *name,
                             size_t *count) {
    const Py_buffer *view = take_buffer(b, PyTuple_GET_ITEM(tuple, at), type, name);
    if (!view) return NULL;
    if (wanted != SIZE_MAX && item_count(view) != wanted) {
        PyErr_Format(PyExc_ValueError, "%s has %zu numbers, not %zu", name, item_count(view), wanted);
        return NULL;
    }
    if (count) *count = item_count(view);
    return view->buf;
}

static int take_crowd(ExpertsObject *self, PyObject *arrays) {
    Crowd *c = &self->experts.crowd;
    Buffers *b = &self->buffers;
    size_t n = c->items = self->experts.items;
    if (arrays == Py_None) return 1;
    if (!PyTuple_Check(arrays) || PyTuple_GET_SIZE(arrays) != 4) return refuse("the crowd is not a tuple of 4 arrays");
    return (c->neighbours = take_part(b, arrays, 1, OF_INT32, SIZE_MAX, "neighbours", &c->edges)) &&
           (c->weights = take_part(b, arrays, 2, OF_FLOAT32, c->edges, "weights", NULL)) &&
           (c->popular = take_part(b, arrays, 3, OF_FLOAT32, n, "popular", NULL)) &&
           (c->first = take_part(b, arrays, 0, OF_INT64, n + 1, "first", NULL));
}

static int take_words(ExpertsObject *self, PyObject *arrays) {
    Words *w = &self->experts.words;
    Buffers *b = &self->buffers;
    size_t n = w->items = self->experts.items;
    if (arrays == Py_None) return 1;
    if (!PyTuple_Check(arrays) || PyTuple_GET_SIZE(arrays) != 7) return refuse("the words are not a tuple of 7 arrays");
    return (w->term = take_part(b, arrays, 1, OF_INT32, SIZE_MAX, "terms", &w->terms)) &&
           (w->idf = take_part(b, arrays, 2, OF_FLOAT32, SIZE_MAX, "idf", &w->vocabulary)) &&
           (w->norm = take_part(b, arrays, 3, OF_FLOAT32, n, "norm", NULL)) &&
           (w->post_first = take_part(b, arrays, 4, OF_INT64, w->vocabulary + 1, "post_first", NULL)) &&
           (w->post_items = take_part(b, arrays, 5, OF_INT32, SIZE_MAX, "post_items", &w->postings)) &&
           (w->inverse = take_part(b, arrays, 6, OF_FLOAT32, n, "inverse", NULL)) &&
           (w->first = take_part(b, arrays, 0, OF_INT64, n + 1, "first", NULL));
}

static int take_weights(Experts *e, PyObject *weights) {
    double crowd, words, popular, crowd_recency, words_recency, seen;
    Py_ssize_t newest;
    if (!PyArg_ParseTuple(weights, "ddddddn", &crowd, &words, &popular, &crowd_recency, &words_recency, &seen, &newest)) return 0;
    if (newest < 1 || newest > 255) return refuse("words_items is not from 1 to 255");
    e->crowd.weight = (float)crowd, e->crowd.recency = crowd_recency, e->crowd.personal = 1.0 - popular;
    e->words.weight = (float)words, e->words.recency = words_recency, e->words.newest = (size_t)newest;
    e->seen = (float)seen;
    return 1;
}

static PyObject *experts_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    PyObject *weights, *crowd, *words;
    Py_ssize_t items;
    if (keywords && PyDict_GET_SIZE(keywords)) return PyErr_Format(PyExc_TypeError, "Experts takes no keyword arguments");
    if (!PyArg_ParseTuple(args, "nO!OO", &items, &PyTuple_Type, &weights, &crowd, &words)) return NULL;
    if (items < 0 || items >= INT32_MAX / 3) return refuse("the number of items is out of range"), NULL;
    ExpertsObject *self = (ExpertsObject *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->experts.items = (size_t)items;
    if (take_weights(&self->experts, weights) && take_crowd(self, crowd) && take_words(self, words)) return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

static void experts_free(PyObject *object) {
    PyTypeObject *type = Py_TYPE(object);
    release_buffers(&((ExpertsObject *)object)->buffers);
    type->tp_free(object);
    Py_DECREF(type);
}

static int take_floor(FloorObject *self, PyObject *leaves, PyObject *nodes, PyObject *parents, PyObject *leaf_of) {
    Floor *f = &self->floor;
    Buffers *b = &self->buffers;
    const Py_buffer *view;
    f->items = self->experts->experts.items;
    if (!(view = take_buffer(b, leaves, OF_FLOAT32, "leaves"))) return 0;
    f->leaf = view->buf, f->leaves = item_count(view);
    if (!(view = take_buffer(b, nodes, OF_FLOAT32, "nodes"))) return 0;
    f->node = view->buf, f->nodes = item_count(view);
    if (f->nodes <= f->leaves || f->nodes > INT32_MAX) return refuse("the nodes are fewer than the leaves and a root");
    if (!(view = take_buffer(b, parents, OF_INT32, "parents"))) return 0;
    f->parents = view->buf;
    if (item_count(view) != f->nodes) return refuse("there is not a parent for each node");
    f->depth = depth_of(f);
    if (leaf_of == Py_None) return f->leaves == f->items ? 1 : refuse("there is not a leaf for each item");
    if (!(view = take_buffer(b, leaf_of, OF_INT32, "leaf_of"))) return 0;
    f->leaf_of = view->buf;
    return item_count(view) == f->items ? 1 : refuse("leaf_of does not have a number for each item");
}

static PyObject *floor_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    PyObject *experts, *leaves, *nodes, *parents, *leaf_of;
    if (keywords && PyDict_GET_SIZE(keywords)) return PyErr_Format(PyExc_TypeError, "Floor takes no keyword arguments");
    if (!PyArg_ParseTuple(args, "OOOOO", &experts, &leaves, &nodes, &parents, &leaf_of)) return NULL;
    if (Py_TYPE(experts)->tp_dealloc != experts_free) return PyErr_Format(PyExc_TypeError, "these are no Experts");
    FloorObject *self = (FloorObject *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->experts = (ExpertsObject *)Py_NewRef(experts);
    if (take_floor(self, leaves, nodes, parents, leaf_of)) return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

static void floor_free(PyObject *object) {
    FloorObject *self = (FloorObject *)object;
    PyTypeObject *type = Py_TYPE(object);
    while (self->free) {
        Lift *next = self->free->next;
        free_lift(self->free);
        self->free = next;
    }
    release_buffers(&self->buffers);
    Py_XDECREF(self->experts);
    type->tp_free(object);
    Py_DECREF(type);
}

FloorObject *as_floor(PyObject *object) {
    return Py_TYPE(object)->tp_dealloc == floor_free ? (FloorObject *)object : NULL;
}

Lift *take_lift(FloorObject *floor) {
    Lift *lift;
    Py_BEGIN_CRITICAL_SECTION(floor);
    lift = floor->free;
    if (lift) floor->free = lift->next;
    Py_END_CRITICAL_SECTION();
    if (!lift && !(lift = new_lift(&floor->experts->experts, &floor->floor))) PyErr_NoMemory();
    return lift;
}

void give_lift_back(FloorObject *floor, Lift *lift) {
    Py_BEGIN_CRITICAL_SECTION(floor);
    lift->next = floor->free;
    floor->free = lift;
    Py_END_CRITICAL_SECTION();
}

/* The gains of all nodes after one history, as a buffer; its memory is used again when nobody needs it any more. */
typedef struct {
    PyObject_HEAD
    FloorObject *floor;
    Lift *lift;
    int32_t *history; /* [count] */
    Py_ssize_t nodes, count;
} NodeGains;

static void node_gains_free(PyObject *object) {
    NodeGains *self = (NodeGains *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->lift) {
        lower_nodes(&self->floor->floor, self->history, (size_t)self->count, self->lift);
        give_lift_back(self->floor, self->lift);
    }
    free(self->history);
    Py_XDECREF(self->floor);
    type->tp_free(object);
    Py_DECREF(type);
}

static int node_gains_buffer(PyObject *object, Py_buffer *view, int flags) {
    static Py_ssize_t stride = sizeof(float);
    NodeGains *self = (NodeGains *)object;
    if (flags & PyBUF_WRITABLE) {
        PyErr_SetString(PyExc_BufferError, "gains of nodes cannot be written to");
        view->obj = NULL;
        return -1;
    }
    *view = (Py_buffer){
        .buf = self->lift->nodes, .obj = Py_NewRef(object), .len = self->nodes * stride, .itemsize = stride, .readonly = 1,
        .ndim = 1, .format = flags & PyBUF_FORMAT ? "f" : NULL, .shape = &self->nodes, .strides = &stride,
    };
    return 0;
}

/* A copy of a history, its rows checked. Free it. NULL with an error set. */
static int32_t *copy_history(const Floor *f, const Py_buffer *view) {
    int32_t *history = malloc((size_t)view->len + 1);
    if (!history) return PyErr_NoMemory(), NULL;
    memcpy(history, view->buf, (size_t)view->len);
    for (size_t i = 0; i < item_count(view); i++)
        if ((uint32_t)history[i] >= f->items) {
            free(history);
            return refuse("the history has a row out of range"), NULL;
        }
    return history;
}

static PyObject *node_gains_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    PyObject *floor, *rows;
    int excluded;
    if (keywords && PyDict_GET_SIZE(keywords)) return PyErr_Format(PyExc_TypeError, "NodeGains takes no keyword arguments");
    if (!PyArg_ParseTuple(args, "OOp", &floor, &rows, &excluded)) return NULL;
    FloorObject *of = as_floor(floor);
    if (!of) return PyErr_Format(PyExc_TypeError, "this is no Floor");
    Buffers b = {.count = 0};
    const Py_buffer *view = take_buffer(&b, rows, OF_INT32, "history");
    int32_t *history = view ? copy_history(&of->floor, view) : NULL;
    NodeGains *self = history ? (NodeGains *)type->tp_alloc(type, 0) : NULL;
    if (self) {
        self->floor = (FloorObject *)Py_NewRef(floor), self->nodes = (Py_ssize_t)of->floor.nodes;
        self->history = history, self->count = (Py_ssize_t)item_count(view);
        self->lift = take_lift(of);
        if (self->lift) raise_nodes(&of->experts->experts, &of->floor, history, item_count(view), excluded, self->lift);
        else Py_CLEAR(self);
    } else {
        free(history);
    }
    release_buffers(&b);
    return (PyObject *)self;
}

/* What both functions on words take: first and terms. */
static int take_terms(Buffers *b, PyObject *first, PyObject *terms, Words *w) {
    const Py_buffer *view = take_buffer(b, first, OF_INT64, "first");
    if (!view) return 0;
    if (!item_count(view) || item_count(view) > INT32_MAX) return refuse("first does not fit any number of items");
    w->first = view->buf, w->items = item_count(view) - 1;
    if (!(view = take_buffer(b, terms, OF_INT32, "terms"))) return 0;
    w->term = view->buf, w->terms = item_count(view);
    return 1;
}

PyObject *word_norms(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *first, *terms, *idf, *norm, *size, *out = NULL;
    if (!PyArg_ParseTuple(args, "OOOOO", &first, &terms, &idf, &norm, &size)) return NULL;
    Buffers b = {.count = 0};
    Words w = {.items = 0};
    const Py_buffer *view, *norms;
    if (!take_terms(&b, first, terms, &w) || !(view = take_buffer(&b, idf, OF_FLOAT32, "idf"))) goto out;
    w.idf = view->buf, w.vocabulary = item_count(view);
    if (!(norms = take_writable(&b, norm, OF_FLOAT32, "norm")) || !(view = take_writable(&b, size, OF_INT64, "size"))) goto out;
    if (item_count(norms) != w.items || item_count(view) != w.vocabulary) refuse("sizes do not fit each other");
    else if (memset(view->buf, 0, (size_t)view->len), measure_words(&w, norms->buf, view->buf)) out = Py_NewRef(Py_None);
    else refuse("the words do not fit their items");
out:
    release_buffers(&b);
    return out;
}

PyObject *word_postings(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *first, *terms, *order, *post_first, *post_items, *out = NULL;
    if (!PyArg_ParseTuple(args, "OOOOO", &first, &terms, &order, &post_first, &post_items)) return NULL;
    Buffers b = {.count = 0};
    Words w = {.items = 0};
    const Py_buffer *view, *ordered;
    int32_t *memory = NULL;
    if (!take_terms(&b, first, terms, &w) || !(ordered = take_buffer(&b, order, OF_INT32, "order"))) goto out;
    if (item_count(ordered) != w.items) { refuse("sizes do not fit each other"); goto out; }
    if (!(view = take_buffer(&b, post_first, OF_INT64, "post_first"))) goto out;
    if (!item_count(view)) { refuse("post_first is empty"); goto out; }
    w.post_first = view->buf, w.vocabulary = item_count(view) - 1;
    if (!(view = take_writable(&b, post_items, OF_INT32, "post_items"))) goto out;
    w.postings = item_count(view);
    for (size_t t = 0; t <= w.vocabulary; t++)
        if (w.post_first[t] < (t ? w.post_first[t - 1] : 0) || (uint64_t)w.post_first[t] > w.postings) {
            refuse("post_first does not rise, or goes too far");
            goto out;
        }
    if (!(memory = calloc(size_plus(size_plus(w.items, size_times(2, w.vocabulary)), 1), sizeof(int32_t)))) {
        PyErr_NoMemory();
        goto out;
    }
    int32_t *rank = memory, *count = memory + w.items, *last = count + w.vocabulary;
    const int32_t *items = ordered->buf;
    for (size_t i = 0; i < w.items; i++)
        if ((uint32_t)items[i] < w.items) rank[items[i]] = (int32_t)i;
    if (fill_postings(&w, items, rank, view->buf, count, last)) out = Py_NewRef(Py_None);
    else refuse("the words do not fit their postings");
out:
    free(memory);
    release_buffers(&b);
    return out;
}

static PyType_Slot experts_slots[] = {
    {Py_tp_doc, (void *)"Experts(items, weights, crowd, words)\n--\n\nCrowd and words beside a model, and their weights; arrays "
                        "must not change."},
    {Py_tp_new, experts_new},
    {Py_tp_dealloc, experts_free},
    {0, NULL},
};

static PyType_Slot floor_slots[] = {
    {Py_tp_doc, (void *)"Floor(experts, leaves, nodes, parents, leaf_of)\n--\n\nExperts over the trie of one catalogue; arrays "
                        "must not change."},
    {Py_tp_new, floor_new},
    {Py_tp_dealloc, floor_free},
    {0, NULL},
};

static PyType_Slot node_gains_slots[] = {
    {Py_tp_doc, (void *)"NodeGains(floor, history, excluded)\n--\n\nThe gain of each node after a history of table rows, float32, "
                        "as a buffer."},
    {Py_tp_new, node_gains_new},
    {Py_tp_dealloc, node_gains_free},
    {Py_bf_getbuffer, node_gains_buffer},
    {0, NULL},
};

PyType_Spec experts_spec = {"pocketrec.runtime._native.Experts", sizeof(ExpertsObject), 0, Py_TPFLAGS_DEFAULT, experts_slots};
PyType_Spec floor_spec = {"pocketrec.runtime._native.Floor", sizeof(FloorObject), 0, Py_TPFLAGS_DEFAULT, floor_slots};
PyType_Spec node_gains_spec = {"pocketrec.runtime._native.NodeGains", sizeof(NodeGains), 0, Py_TPFLAGS_DEFAULT, node_gains_slots};
