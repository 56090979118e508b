/* What the files of the Python module share. */
#ifndef POCKETREC_MODULE_H
#define POCKETREC_MODULE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "../core/model.h"

/* pocketrec.runtime._native.Model: it never changes once it is made, so any threads may share it. */
typedef struct {
    PyObject_HEAD
    Model model;
    const Kernels *kernels;
    void **rooms; /* what `model` points to */
    size_t room_count;
} ModelObject;

/* loading.c. The kernels that this processor can run, the best first, whole numbers last; ends with null. */
const Kernels *const *available_kernels(void);
PyObject *model_new(PyTypeObject *type, PyObject *args, PyObject *keywords);
void model_free(PyObject *object);

/* calls.c */
PyObject *model_encode(PyObject *object, PyObject *args);
PyObject *model_search(PyObject *object, PyObject *args);
PyObject *model_recommend(PyObject *object, PyObject *args);

/* fast_path.c */
extern PyType_Spec catalogue_spec;
PyObject *model_answer(PyObject *object, PyObject *args);

/* Without the interpreter's lock, a list may change under another thread's hands; before 3.13 there is always that lock. */
#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

/* Buffers of a call's arguments, to be released together. */
typedef struct {
    Py_buffer view[10];
    int count;
} Buffers;

static inline void release(Buffers *b) {
    while (b->count) PyBuffer_Release(&b->view[--b->count]);
}

/* The next argument's numbers, of `size` bytes each (0: any); NULL with an error set where it has others. */
static inline Py_buffer *buffer(Buffers *b, PyObject *array, Py_ssize_t size, int writable) {
    Py_buffer *view = &b->view[b->count];
    if (PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0)) < 0) return NULL;
    b->count++;
    if (size && view->itemsize != size) {
        PyErr_Format(PyExc_TypeError, "an array has items of %zd bytes, not %zd", view->itemsize, size);
        return NULL;
    }
    return view;
}

static inline int refuse(const char *why) {
    PyErr_SetString(PyExc_ValueError, why);
    return 0;
}

static inline int by_value(const void *a, const void *b) {
    int32_t left = *(const int32_t *)a, right = *(const int32_t *)b;
    return (left > right) - (left < right);
}

#endif
