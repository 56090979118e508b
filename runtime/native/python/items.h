/* Item ids and titles: rows of ids, and texts of rows. runtime/catalogue/item_table.py calls these, and computes the same in
   numpy where the extension is not compiled. */
#ifndef POCKETREC_ITEMS_H
#define POCKETREC_ITEMS_H

#include "buffers.h"

/* Ids of a catalogue, as ItemTable keeps them. Contents may be anything: they are checked where they are read. */
typedef struct {
    const uint64_t *index;  /* [n], rising */
    const char *blob;       /* [bytes] */
    const int64_t *offsets; /* [n + 1] */
    size_t count, bytes;
} IdTable;

/* The row of an id that is not empty, −1 where no row has it. */
int32_t row_of(const IdTable *table, const char *id, Py_ssize_t size);

/* Text `row`, below the number of texts, of a blob. */
PyObject *text_at(const char *blob, size_t bytes, const int64_t *offsets, int32_t row);

/* find_rows(ids, index, id_bytes, id_offsets, rows): fill rows int32 [n] with the row of each id, −1 where no row has it.
   Gives False, rows then being undefined, if an id is not a string or not valid text. */
PyObject *find_rows(PyObject *self, PyObject *args);

/* texts(rows, blob, offsets): the texts of rows int32 [n], as a list. */
PyObject *texts_of(PyObject *self, PyObject *args);

#endif
