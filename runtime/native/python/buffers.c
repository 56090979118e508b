/* Arrays that come from Python: see buffers.h. */
#include "buffers.h"

#include <string.h>

static const struct {
    const char *name, *formats; /* of the struct module */
    Py_ssize_t size, other_size;
} types[] = {
    [OF_INT32] = {"int32", "il", 4, 4},   [OF_INT64] = {"int64", "lq", 8, 8}, [OF_UINT64] = {"uint64", "LQ", 8, 8},
    [OF_FLOAT32] = {"float32", "f", 4, 4}, [OF_BYTES] = {"uint8", "B", 1, 1},  [OF_CODES] = {"uint8 or uint16", "BH", 1, 2},
};

const char *type_name(ItemType type) { return types[type].name; }

int has_type(const Py_buffer *view, ItemType type) {
    const char *format = view->format ? view->format : "B";
    if (*format == '@' || *format == '=' || *format == (PY_BIG_ENDIAN ? '>' : '<')) format++;
    int known = *format && !format[1] && strchr(types[type].formats, *format);
    return known && (view->itemsize == types[type].size || view->itemsize == types[type].other_size);
}

static const Py_buffer *take(Buffers *b, PyObject *array, ItemType type, const char *name, int flags) {
    Py_buffer *view = &b->view[b->count];
    if (b->count == sizeof b->view / sizeof *b->view) {
        PyErr_SetString(PyExc_SystemError, "a call takes more arrays than it has room for");
        return NULL;
    }
    if (PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags) < 0) return NULL;
    b->count++;
    if (!has_type(view, type)) {
        PyErr_Format(PyExc_TypeError, "%s has the type '%s', not %s", name, view->format ? view->format : "B", type_name(type));
        return NULL;
    }
    if (view->len && (uintptr_t)view->buf % (size_t)view->itemsize) {
        PyErr_Format(PyExc_ValueError, "%s is not aligned to its items; copy it", name);
        return NULL;
    }
    return view;
}

const Py_buffer *take_buffer(Buffers *b, PyObject *array, ItemType type, const char *name) {
    return take(b, array, type, name, 0);
}

const Py_buffer *take_writable(Buffers *b, PyObject *array, ItemType type, const char *name) {
    return take(b, array, type, name, PyBUF_WRITABLE);
}

void release_buffers(Buffers *b) {
    while (b->count) PyBuffer_Release(&b->view[--b->count]);
}

int refuse(const char *why) {
    PyErr_SetString(PyExc_ValueError, why);
    return 0;
}
