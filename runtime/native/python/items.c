/* Item ids and titles: see items.h. */
#include "items.h"

#include <string.h>

#include "module.h"

#define ROW_MASK 0xffffffull /* low bits of an index key: the row; the others: the id's hash */
#define BASE 0x9E3779B97F4A7C15ull

/* As `hash_texts` of runtime/catalogue/packed_texts.py: a polynomial in BASE, its low bits mixed in. */
static uint64_t hash_of(const unsigned char *text, Py_ssize_t size) {
    uint64_t sum = 0, power = 1;
    for (Py_ssize_t i = 0; i < size; i++, power *= BASE) sum += (text[i] + 1ull) * power;
    sum ^= sum >> 32;
    return sum * BASE & ~ROW_MASK;
}

/* Where text `row` begins and ends; 0 where its offsets do not fit the blob. */
static int span_of(const int64_t *offsets, size_t bytes, size_t row, int64_t *begin, int64_t *end) {
    *begin = offsets[row], *end = offsets[row + 1];
    return *begin >= 0 && *begin <= *end && (uint64_t)*end <= bytes;
}

int32_t row_of(const IdTable *t, const char *id, Py_ssize_t size) {
    uint64_t wanted = hash_of((const unsigned char *)id, size);
    size_t low = 0, count = t->count;
    while (count) { /* the first key that is not below */
        size_t half = count / 2;
        int below = t->index[low + half] < wanted;
        low = below ? low + half + 1 : low;
        count = below ? count - half - 1 : half;
    }
    for (; low < t->count && (t->index[low] & ~ROW_MASK) == wanted; low++) {
        size_t row = t->index[low] & ROW_MASK;
        int64_t begin, end;
        if (row < t->count && span_of(t->offsets, t->bytes, row, &begin, &end) && end - begin == size &&
            !memcmp(t->blob + begin, id, (size_t)size))
            return (int32_t)row;
    }
    return -1;
}

PyObject *text_at(const char *blob, size_t bytes, const int64_t *offsets, int32_t row) {
    int64_t begin, end;
    if (!span_of(offsets, bytes, (size_t)row, &begin, &end)) return PyErr_Format(PyExc_IndexError, "offsets do not fit");
    return PyUnicode_DecodeUTF8(blob + begin, (Py_ssize_t)(end - begin), NULL);
}

static int take_ids(Buffers *b, PyObject *index, PyObject *blob, PyObject *offsets, IdTable *table) {
    const Py_buffer *view;
    if (!(view = take_buffer(b, index, OF_UINT64, "index"))) return 0;
    table->index = view->buf, table->count = item_count(view);
    if (!(view = take_buffer(b, blob, OF_BYTES, "id_bytes"))) return 0;
    table->blob = view->buf, table->bytes = item_count(view);
    if (!(view = take_buffer(b, offsets, OF_INT64, "id_offsets"))) return 0;
    table->offsets = view->buf;
    return item_count(view) == table->count + 1 ? 1 : refuse("there is not an offset for each id");
}

PyObject *find_rows(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *ids, *index, *blob, *offsets, *rows, *out = NULL;
    if (!PyArg_ParseTuple(args, "O!OOOO", &PyList_Type, &ids, &index, &blob, &offsets, &rows)) return NULL;
    Buffers b = {.count = 0};
    IdTable table;
    const Py_buffer *view = NULL;
    if (take_ids(&b, index, blob, offsets, &table) && (view = take_writable(&b, rows, OF_INT32, "rows"))) {
        int32_t *to = view->buf;
        size_t count = item_count(view), i = 0;
        if ((size_t)PyList_GET_SIZE(ids) != count) {
            refuse("there is not a row for each id");
            goto out;
        }
        Py_BEGIN_CRITICAL_SECTION(ids);
        for (; i < count && (size_t)PyList_GET_SIZE(ids) == count; i++) {
            PyObject *id = PyList_GET_ITEM(ids, (Py_ssize_t)i);
            Py_ssize_t size = 0;
            const char *text = PyUnicode_CheckExact(id) ? PyUnicode_AsUTF8AndSize(id, &size) : NULL;
            if (!text) break; /* for the caller to report */
            to[i] = size ? row_of(&table, text, size) : -1;
        }
        Py_END_CRITICAL_SECTION();
        PyErr_Clear();
        out = Py_NewRef(i == count ? Py_True : Py_False);
    }
out:
    release_buffers(&b);
    return out;
}

PyObject *texts_of(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *rows, *blob, *offsets, *out = NULL;
    if (!PyArg_ParseTuple(args, "OOO", &rows, &blob, &offsets)) return NULL;
    Buffers b = {.count = 0};
    const Py_buffer *row_view, *blob_view, *offset_view;
    if (!(row_view = take_buffer(&b, rows, OF_INT32, "rows")) || !(blob_view = take_buffer(&b, blob, OF_BYTES, "blob")) ||
        !(offset_view = take_buffer(&b, offsets, OF_INT64, "offsets")))
        goto out;
    size_t texts = item_count(offset_view);
    out = PyList_New((Py_ssize_t)item_count(row_view));
    for (size_t i = 0; out && i < item_count(row_view); i++) {
        int32_t row = ((const int32_t *)row_view->buf)[i];
        PyObject *text = NULL;
        if (row >= 0 && (size_t)row + 1 < texts) text = text_at(blob_view->buf, item_count(blob_view), offset_view->buf, row);
        else PyErr_Format(PyExc_IndexError, "there is no row %d", row);
        if (text) PyList_SET_ITEM(out, (Py_ssize_t)i, text);
        else Py_CLEAR(out);
    }
out:
    release_buffers(&b);
    return out;
}
