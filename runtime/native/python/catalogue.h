/* pocketrec.runtime._native.Catalogue: a whole catalogue's arrays, for calls that go from item ids to items. */
#ifndef POCKETREC_CATALOGUE_H
#define POCKETREC_CATALOGUE_H

#include "items.h"
#include "module.h"

/* Leaf rows are table rows: a whole catalogue's table is in the order of its leaves. */
typedef struct {
    PyObject_HEAD
    Buffers buffers;
    IdTable ids;
    const char *titles; /* or null */
    const int64_t *title_offsets;
    size_t title_bytes;
    const uint8_t *rows8; /* semantic IDs [n, L]; this or the next is null */
    const uint16_t *rows16;
    size_t levels;
    Trie trie;
    PyObject *item_type; /* a NamedTuple of id, score and title */
} Catalogue;

extern PyType_Spec catalogue_spec;

/* The object as a Catalogue; NULL where it is none. */
const Catalogue *as_catalogue(PyObject *object);

/* A new item of a leaf row, of the catalogue's item type. */
PyObject *catalogue_item(const Catalogue *c, int32_t row, float score);

#endif
