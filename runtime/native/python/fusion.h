/* pocketrec.runtime._native.Experts, Floor and NodeGains: crowd and words of a catalogue, for runtime/experts/compiled.py. */
#ifndef POCKETREC_PYTHON_FUSION_H
#define POCKETREC_PYTHON_FUSION_H

#include "module.h"

#include "../core/fusion.h"

/* Crowd, words and their weights. It never changes once it is made. */
typedef struct {
    PyObject_HEAD
    Buffers buffers;
    Experts experts;
} ExpertsObject;

/* The experts over the trie of one catalogue, and memory that calls take and give back. */
typedef struct {
    PyObject_HEAD
    Buffers buffers;
    ExpertsObject *experts;
    Floor floor;
    Lift *free; /* that no call uses; guarded by the interpreter's lock or the object's own */
} FloorObject;

extern PyType_Spec experts_spec, floor_spec, node_gains_spec;

/* The object as a FloorObject; NULL where it is none. */
FloorObject *as_floor(PyObject *object);

/* Memory of a call, whose nodes are the floor: NULL with an error set where memory is short. Give it back the same way. */
Lift *take_lift(FloorObject *floor);
void give_lift_back(FloorObject *floor, Lift *lift);

/* word_norms(first, terms, idf, norm, size): fill in the length of each item's vector and the items of each word. */
PyObject *word_norms(PyObject *self, PyObject *args);

/* word_postings(first, terms, order, post_first, post_items): fill in the items of each word, by row; where there is not room
   for all, those that come first in `order`. */
PyObject *word_postings(PyObject *self, PyObject *args);

#endif
