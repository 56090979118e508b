/* What items.c adds to the module. */
#ifndef POCKETREC_ITEMS_H
#define POCKETREC_ITEMS_H

#include <Python.h>

/* Ids of a catalogue, as ItemTable of runtime/catalogue/item_table.py keeps them. */
typedef struct {
    const uint64_t *index; /* [n], rising */
    const char *blob;
    const int64_t *offsets; /* [n + 1] */
    size_t items, bytes;    /* n; of `blob` */
} Table;

/* The row of an id, −1 where none has it. */
int32_t row_of(const Table *table, const char *text, Py_ssize_t size);

/* find(ids, index, id_bytes, id_offsets, rows): fill rows int32 [n] with the row of each id, −1 where none has it. Gives
   False, rows then being of no use, if an id is no string or is not valid text. */
PyObject *find_rows(PyObject *self, PyObject *args);

/* texts(rows, blob, offsets): the texts of rows int32 [n], as a list. */
PyObject *texts_of(PyObject *self, PyObject *args);

#endif
