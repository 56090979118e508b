/* Item ids and titles: rows of ids, and texts of rows, without numpy's cost per call. runtime/catalogue/item_table.py calls it, and does the
   same in numpy where this is not compiled. */
#include "module.h"

#include <string.h>

#include "items.h"

#define ROW_MASK 0xffffffull /* low bits of an index key: the row; the others: the id's hash */
#define BASE 0x9E3779B97F4A7C15ull

/* As `hash_texts` of runtime/catalogue/packed_texts.py: a polynomial in BASE, its low bits mixed in. */
static uint64_t hash_of(const unsigned char *text, Py_ssize_t size) {
    uint64_t sum = 0, power = 1;
    for (Py_ssize_t i = 0; i < size; i++, power *= BASE) sum += (text[i] + 1ull) * power;
    sum ^= sum >> 32;
    return sum * BASE & ~ROW_MASK;
}

int32_t row_of(const Table *t, const char *text, Py_ssize_t size) {
    uint64_t wanted = hash_of((const unsigned char *)text, size);
    size_t low = 0, count = t->items;
    while (count) { /* the first key that is not below */
        size_t half = count / 2;
        int below = t->index[low + half] < wanted;
        low = below ? low + half + 1 : low;
        count = below ? count - half - 1 : half;
    }
    for (; low < t->items && (t->index[low] & ~ROW_MASK) == wanted; low++) {
        size_t row = t->index[low] & ROW_MASK;
        if (row >= t->items) continue;
        int64_t begin = t->offsets[row], end = t->offsets[row + 1];
        if (begin >= 0 && end - begin == size && (size_t)end <= t->bytes && !memcmp(t->blob + begin, text, (size_t)size))
            return (int32_t)row;
    }
    return -1;
}

static int take_table(PyObject *blob, PyObject *offsets, Py_buffer *blob_view, Py_buffer *offsets_view) {
    if (PyObject_GetBuffer(blob, blob_view, PyBUF_C_CONTIGUOUS) < 0) return 0;
    if (PyObject_GetBuffer(offsets, offsets_view, PyBUF_C_CONTIGUOUS) < 0) {
        PyBuffer_Release(blob_view);
        return 0;
    }
    if (offsets_view->itemsize == 8 && offsets_view->len >= 8) return 1;
    PyBuffer_Release(offsets_view);
    PyBuffer_Release(blob_view);
    PyErr_SetString(PyExc_ValueError, "offsets are not int64 [n + 1]");
    return 0;
}

PyObject *find_rows(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *ids, *index, *blob, *offsets, *rows;
    if (!PyArg_ParseTuple(args, "O!OOOO", &PyList_Type, &ids, &index, &blob, &offsets, &rows)) return NULL;
    Py_buffer index_view, blob_view, offsets_view, rows_view;
    if (!take_table(blob, offsets, &blob_view, &offsets_view)) return NULL;
    PyObject *out = NULL;
    if (PyObject_GetBuffer(index, &index_view, PyBUF_C_CONTIGUOUS) < 0) goto table;
    if (PyObject_GetBuffer(rows, &rows_view, PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0) goto index;
    Table table = {index_view.buf, blob_view.buf, offsets_view.buf, (size_t)offsets_view.len / 8 - 1, (size_t)blob_view.len};
    Py_ssize_t count = PyList_GET_SIZE(ids);
    if ((size_t)index_view.len != table.items * 8 || rows_view.len != count * 4) {
        PyErr_SetString(PyExc_ValueError, "index or rows have another size");
        goto rows;
    }
    int32_t *to = rows_view.buf;
    out = Py_True;
    Py_BEGIN_CRITICAL_SECTION(ids);
    for (Py_ssize_t i = 0; i < count && out == Py_True; i++) {
        Py_ssize_t size = 0;
        PyObject *id = i < PyList_GET_SIZE(ids) ? PyList_GET_ITEM(ids, i) : NULL;
        const char *text = id && PyUnicode_CheckExact(id) ? PyUnicode_AsUTF8AndSize(id, &size) : NULL;
        if (text) to[i] = size ? row_of(&table, text, size) : -1;
        else out = Py_False; /* no string, or one that is no text: for the caller to look at */
    }
    Py_END_CRITICAL_SECTION();
    PyErr_Clear();
    Py_INCREF(out);
rows:
    PyBuffer_Release(&rows_view);
index:
    PyBuffer_Release(&index_view);
table:
    PyBuffer_Release(&offsets_view);
    PyBuffer_Release(&blob_view);
    return out;
}

PyObject *texts_of(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *rows, *blob, *offsets;
    if (!PyArg_ParseTuple(args, "OOO", &rows, &blob, &offsets)) return NULL;
    Py_buffer rows_view, blob_view, offsets_view;
    if (!take_table(blob, offsets, &blob_view, &offsets_view)) return NULL;
    PyObject *out = NULL;
    if (PyObject_GetBuffer(rows, &rows_view, PyBUF_C_CONTIGUOUS) < 0) goto table;
    if (rows_view.itemsize != 4) {
        PyErr_SetString(PyExc_ValueError, "rows are not int32");
        goto rows;
    }
    const int64_t *at = offsets_view.buf;
    Py_ssize_t items = offsets_view.len / 8 - 1, count = rows_view.len / 4;
    out = PyList_New(count);
    for (Py_ssize_t i = 0; out && i < count; i++) {
        int32_t row = ((const int32_t *)rows_view.buf)[i];
        PyObject *text = NULL;
        if (row < 0 || row >= items) PyErr_Format(PyExc_IndexError, "there is no row %d", row);
        else if (at[row] < 0 || at[row] > at[row + 1] || at[row + 1] > blob_view.len)
            PyErr_SetString(PyExc_IndexError, "offsets do not fit");
        else text = PyUnicode_DecodeUTF8((const char *)blob_view.buf + at[row], at[row + 1] - at[row], NULL);
        if (text) PyList_SET_ITEM(out, i, text);
        else Py_CLEAR(out);
    }
rows:
    PyBuffer_Release(&rows_view);
table:
    PyBuffer_Release(&offsets_view);
    PyBuffer_Release(&blob_view);
    return out;
}
