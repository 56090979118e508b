/* Arrays that come from Python, through the buffer protocol: checked for type, byte order and alignment. */
#ifndef POCKETREC_BUFFERS_H
#define POCKETREC_BUFFERS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

typedef enum { OF_INT32, OF_INT64, OF_UINT64, OF_FLOAT32, OF_BYTES, OF_CODES /* uint8 or uint16 */ } ItemType;

/* Tell whether a buffer's items are of a type, in this machine's byte order. */
int has_type(const Py_buffer *view, ItemType type);

/* Its name, as numpy spells it. */
const char *type_name(ItemType type);

/* Buffers of a call's arguments, to be released together. */
typedef struct {
    Py_buffer view[12];
    int count;
} Buffers;

void release_buffers(Buffers *b);

/* The next argument, an array without gaps; `name` is for errors. NULL with an error set where it is of another type. */
const Py_buffer *take_buffer(Buffers *b, PyObject *array, ItemType type, const char *name);

/* The same of an array that is written to. */
const Py_buffer *take_writable(Buffers *b, PyObject *array, ItemType type, const char *name);

static inline size_t item_count(const Py_buffer *view) { return (size_t)(view->len / view->itemsize); }

/* Set a ValueError; gives 0. */
int refuse(const char *why);

#endif
