/* A whole catalogue's arrays: see catalogue.h. Texts are checked where they are read, the trie's nodes once, here. */
#include "catalogue.h"

static int take_ids(Catalogue *c, PyObject *index, PyObject *blob, PyObject *offsets) {
    const Py_buffer *view;
    if (!(view = take_buffer(&c->buffers, index, OF_UINT64, "index"))) return 0;
    c->ids.index = view->buf, c->ids.count = item_count(view);
    if (!(view = take_buffer(&c->buffers, blob, OF_BYTES, "id_bytes"))) return 0;
    c->ids.blob = view->buf, c->ids.bytes = item_count(view);
    if (!(view = take_buffer(&c->buffers, offsets, OF_INT64, "id_offsets"))) return 0;
    c->ids.offsets = view->buf;
    return item_count(view) == c->ids.count + 1 ? 1 : refuse("there is not an offset for each id");
}

static int take_titles(Catalogue *c, PyObject *titles, PyObject *offsets) {
    const Py_buffer *view;
    if (titles == Py_None) return 1;
    if (!(view = take_buffer(&c->buffers, titles, OF_BYTES, "titles"))) return 0;
    c->titles = view->buf, c->title_bytes = item_count(view);
    if (!(view = take_buffer(&c->buffers, offsets, OF_INT64, "title_offsets"))) return 0;
    c->title_offsets = view->buf;
    return item_count(view) == c->ids.count + 1 ? 1 : refuse("there is not an offset for each title");
}

static int take_rows(Catalogue *c, PyObject *rows) {
    const Py_buffer *view = take_buffer(&c->buffers, rows, OF_CODES, "rows");
    if (!view) return 0;
    if (view->itemsize == 1) c->rows8 = view->buf;
    else c->rows16 = view->buf;
    c->levels = c->ids.count ? item_count(view) / c->ids.count : 0;
    return c->levels && item_count(view) % c->ids.count == 0 ? 1 : refuse("there is not a semantic ID for each id");
}

/* Tell whether each internal node's children come right behind those of the node before, up to the last node. */
static int spans_nodes(const int32_t *first_child, size_t internal, size_t nodes) {
    int falls = 0;
    for (size_t i = 0; i < internal; i++) falls |= first_child[i + 1] < first_child[i];
    return !falls && first_child[0] == 1 && first_child[internal] == (int32_t)nodes;
}

static int take_trie(Catalogue *c, PyObject *first_child, PyObject *codes) {
    Trie *trie = &c->trie;
    const Py_buffer *view = take_buffer(&c->buffers, first_child, OF_INT32, "first_child");
    if (!view) return 0;
    if (item_count(view) < 2) return refuse("the trie has no nodes");
    trie->first_child = view->buf, trie->internal = item_count(view) - 1;
    if (!(view = take_buffer(&c->buffers, codes, OF_CODES, "codes"))) return 0;
    if ((view->itemsize == 1) != (c->rows8 != NULL)) return refuse("rows and codes are of different types");
    if (view->itemsize == 1) trie->codes8 = view->buf;
    else trie->codes16 = view->buf;
    trie->nodes = item_count(view);
    if (trie->nodes > INT32_MAX || trie->nodes != trie->internal + c->ids.count)
        return refuse("the trie does not have a leaf for each id");
    return spans_nodes(trie->first_child, trie->internal, trie->nodes) ? 1 : refuse("first_child is out of range, or falls");
}

static PyObject *catalogue_new(PyTypeObject *type, PyObject *args, PyObject *keywords) {
    PyObject *index, *ids, *offsets, *titles, *title_offsets, *rows, *first_child, *codes, *item_type;
    if (keywords && PyDict_GET_SIZE(keywords)) return PyErr_Format(PyExc_TypeError, "Catalogue takes no keyword arguments");
    if (!PyArg_ParseTuple(args, "OOOOOOOOO!", &index, &ids, &offsets, &titles, &title_offsets, &rows, &first_child, &codes,
                          &PyType_Type, &item_type))
        return NULL;
    if (!PyType_IsSubtype((PyTypeObject *)item_type, &PyTuple_Type))
        return PyErr_Format(PyExc_TypeError, "the type of items is not a tuple's");
    Catalogue *self = (Catalogue *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->item_type = Py_NewRef(item_type);
    if (take_ids(self, index, ids, offsets) && take_titles(self, titles, title_offsets) && take_rows(self, rows) &&
        take_trie(self, first_child, codes))
        return (PyObject *)self;
    Py_DECREF(self);
    return NULL;
}

static void catalogue_free(PyObject *object) {
    Catalogue *self = (Catalogue *)object;
    PyTypeObject *type = Py_TYPE(object);
    release_buffers(&self->buffers);
    Py_XDECREF(self->item_type);
    type->tp_free(object);
    Py_DECREF(type);
}

const Catalogue *as_catalogue(PyObject *object) {
    return Py_TYPE(object)->tp_dealloc == catalogue_free ? (const Catalogue *)object : NULL;
}

static PyObject *catalogue_leaf(PyObject *object, PyObject *id) {
    Py_ssize_t size = 0;
    const char *text = PyUnicode_Check(id) ? PyUnicode_AsUTF8AndSize(id, &size) : NULL;
    PyErr_Clear();
    return PyLong_FromLong(text && size ? row_of(&((Catalogue *)object)->ids, text, size) : -1);
}

static PyMethodDef catalogue_methods[] = {
    {"leaf", catalogue_leaf, METH_O, "leaf(item_id)\n--\n\nThe leaf row of an item, -1 if there is none."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot catalogue_slots[] = {
    {Py_tp_doc,
     (void *)"Catalogue(index, id_bytes, id_offsets, titles, title_offsets, rows, first_child, codes, item_type)\n--\n\n"
             "A whole catalogue's arrays, which must not change, and the NamedTuple of id, score and title to make of its "
             "items."},
    {Py_tp_new, catalogue_new},
    {Py_tp_dealloc, catalogue_free},
    {Py_tp_methods, catalogue_methods},
    {0, NULL},
};

PyType_Spec catalogue_spec = {"pocketrec.runtime._native.Catalogue", sizeof(Catalogue), 0, Py_TPFLAGS_DEFAULT,
                              catalogue_slots};

/* None where there is no title, or an empty one. */
static PyObject *title_at(const Catalogue *c, int32_t row) {
    int none = !c->titles || c->title_offsets[row] == c->title_offsets[row + 1];
    return none ? Py_NewRef(Py_None) : text_at(c->titles, c->title_bytes, c->title_offsets, row);
}

PyObject *catalogue_item(const Catalogue *c, int32_t row, float score) {
    PyObject *id = text_at(c->ids.blob, c->ids.bytes, c->ids.offsets, row), *number = PyFloat_FromDouble(score);
    PyObject *title = title_at(c, row);
    PyObject *parts = id && number && title ? PyTuple_Pack(3, id, number, title) : NULL;
    PyObject *arguments = parts ? PyTuple_Pack(1, parts) : NULL;
    PyObject *item = arguments ? PyTuple_Type.tp_new((PyTypeObject *)c->item_type, arguments, NULL) : NULL;
    Py_XDECREF(arguments), Py_XDECREF(parts), Py_XDECREF(id), Py_XDECREF(number), Py_XDECREF(title);
    return item;
}
