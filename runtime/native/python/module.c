/* pocketrec.runtime._native: a model's encoder and search, and lookups of item ids, for runtime/engines/native.py and
   runtime/catalogue/item_table.py. */
#include "catalogue.h"
#include "fusion.h"

PyDoc_STRVAR(encode_doc, "encode(history, past, hidden, present)\n--\n\n"
                         "Read int32 [N, L] after past, float32 [layers, 2, G, P, d] or None; fills hidden [D] and, where it\n"
                         "is not None, present [layers, 2, G, S, d].");

PyDoc_STRVAR(search_doc, "search(hidden, cache, first_child, codes, exclude, beam, widen, bias, rows, scores)\n--\n\n"
                         "Find the best leaves after hidden [D], and after the cache that `encode` gave, which a student does\n"
                         "not need; fills rows and scores, equally long, at most beam, and returns how many there are. With\n"
                         "widen, it searches wider where a better leaf may have been cut.");

PyDoc_STRVAR(encode_and_search_doc, "encode_and_search(history, unused, first_child, codes, exclude, beam, widen, bias, rows, scores)\n--\n\n"
                                    "Read int32 [N, L] and search; as `search`.");

PyDoc_STRVAR(recommend_items_doc,
             "recommend_items(catalogue, floor, ids, hidden, cache, history_leaves, k, beam, exclude_seen, widen)\n--\n\n"
             "The items that `Recommender.recommend` gives, from a list of item ids or, with ids None, from hidden [D],\n"
             "cache and the history's leaf rows int32 [n]; None where an id is not known, or the search is not wide enough.\n"
             "floor: the experts over the catalogue, or None.");

static PyObject *model_kernels(PyObject *self, void *unused) {
    (void)unused;
    return PyUnicode_FromString(((ModelObject *)self)->kernels->name);
}

static PyMethodDef model_methods[] = {
    {"encode", model_encode, METH_VARARGS, encode_doc},
    {"search", model_search, METH_VARARGS, search_doc},
    {"encode_and_search", model_encode_and_search, METH_VARARGS, encode_and_search_doc},
    {"recommend_items", model_recommend_items, METH_VARARGS, recommend_items_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef model_properties[] = {
    {"kernels", model_kernels, NULL, "Name of the instruction set that is used.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot model_slots[] = {
    {Py_tp_doc, (void *)"Model(sizes, eps, tensors, kernels=None)\n--\n\nA model, its weights copied and laid out."},
    {Py_tp_new, model_new},
    {Py_tp_dealloc, model_free},
    {Py_tp_methods, model_methods},
    {Py_tp_getset, model_properties},
    {0, NULL},
};

static PyType_Spec model_spec = {"pocketrec.runtime._native.Model", sizeof(ModelObject), 0, Py_TPFLAGS_DEFAULT, model_slots};

PyDoc_STRVAR(kernels_doc, "kernels()\n--\n\nNames of the instruction sets that this processor has kernels for, the best first.");

static PyObject *module_kernels(PyObject *self, PyObject *unused) {
    (void)self, (void)unused;
    const Kernels *list[KERNELS_LIMIT];
    size_t count = available_kernels(list);
    PyObject *out = PyList_New((Py_ssize_t)count);
    for (size_t i = 0; out && i < count; i++) {
        PyObject *name = PyUnicode_FromString(list[i]->name);
        if (name) PyList_SET_ITEM(out, (Py_ssize_t)i, name);
        else Py_CLEAR(out);
    }
    return out;
}

static PyMethodDef module_methods[] = {
    {"kernels", module_kernels, METH_NOARGS, kernels_doc},
    {"find_rows", find_rows, METH_VARARGS, "find_rows(ids, index, id_bytes, id_offsets, rows)\n--\n\nFill rows int32 [n]; see items.h."},
    {"word_postings", word_postings, METH_VARARGS,
     "word_postings(first, terms, order, post_first, post_items)\n--\n\nFill post_items in; see fusion.h."},
    {"word_norms", word_norms, METH_VARARGS, "word_norms(first, terms, idf, norm, size)\n--\n\nFill norm and size in; see fusion.h."},
    {"texts", texts_of, METH_VARARGS, "texts(rows, blob, offsets)\n--\n\nThe texts of rows int32 [n]."},
    {NULL, NULL, 0, NULL},
};

static int module_exec(PyObject *module) {
    PyType_Spec *specs[] = {&model_spec, &catalogue_spec, &experts_spec, &floor_spec, &node_gains_spec};
    for (size_t i = 0; i < sizeof specs / sizeof *specs; i++) {
        PyObject *type = PyType_FromSpec(specs[i]);
        int failed = !type || PyModule_AddType(module, (PyTypeObject *)type) < 0;
        Py_XDECREF(type);
        if (failed) return -1;
    }
    return 0;
}

static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
#ifdef Py_GIL_DISABLED
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, "pocketrec.runtime._native", "A model's encoder and search in C.", 0, module_methods,
    module_slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&module_definition); }
