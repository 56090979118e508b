/* Declarations that the files of the Python module share. */
#ifndef POCKETREC_MODULE_H
#define POCKETREC_MODULE_H

#include "buffers.h"

#include "../core/model.h"

/* pocketrec.runtime._native.Model. It never changes once it is made, so any threads may share it. */
typedef struct {
    PyObject_HEAD
    Model model;
    const Kernels *kernels;
    void **arrays; /* all that `model` points to */
    size_t array_count;
} ModelObject;

/* loading.c */
PyObject *model_new(PyTypeObject *type, PyObject *args, PyObject *keywords);
void model_free(PyObject *object);

/* calls.c */
PyObject *model_encode(PyObject *object, PyObject *args);
PyObject *model_search(PyObject *object, PyObject *args);
PyObject *model_encode_and_search(PyObject *object, PyObject *args);

/* Hidden [D] and, of a Llama, the cache of `tokens` tokens, as an earlier call of `encode` gave them. */
int take_encoded(const Model *m, Buffers *b, PyObject *hidden_array, PyObject *cache_array, const float **hidden,
                 const float **cache, size_t *tokens);

/* fast_path.c */
PyObject *model_recommend_items(PyObject *object, PyObject *args);

/* For PyArg_ParseTuple's O&: an integer to a Py_ssize_t; one that is too large is cut to the largest. */
int take_count(PyObject *number, void *count);

/* Without the interpreter's lock, another thread may change a list while it is read; before 3.13 there is always that lock. */
#ifndef Py_BEGIN_CRITICAL_SECTION
#define Py_BEGIN_CRITICAL_SECTION(object) {
#define Py_END_CRITICAL_SECTION() }
#endif

/* For qsort. */
static inline int by_value(const void *a, const void *b) {
    int32_t left = *(const int32_t *)a, right = *(const int32_t *)b;
    return (left > right) - (left < right);
}

#endif
