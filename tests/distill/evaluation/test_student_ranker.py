"""The student as a ranker: brute force over all items says what its lists must be."""

from __future__ import annotations

import numpy as np

from pocketrec.distill.data.splits import Sequences
from pocketrec.distill.evaluation.ranking import INVALID
from pocketrec.distill.evaluation.student_ranker import StudentRanker, UnconstrainedRanker
from tiny import CODES, LEVELS, brute_force, random_rows, tiny_student


def test_the_ranker_gives_the_brute_force_ranking_in_catalogue_rows():
    student, rows = tiny_student(), random_rows(25)
    histories = Sequences.from_lists([[], [3], [1, 2, 3, 4, 5, 6, 7, 8]])
    ranker = StudentRanker(student, rows, beam=25)
    for exclude_seen in (False, True):
        ranked = ranker.rank(histories, 25, exclude_seen)
        for row, history in enumerate(histories):
            truth = brute_force(student, rows[history[-6:]].astype(np.int64), rows)
            expected = [i for i in np.argsort(-truth).tolist() if not (exclude_seen and i in history)]
            assert ranked[row].tolist() == expected + [-1] * (25 - len(expected))


def test_without_the_trie_the_top_sids_come_back_and_those_of_no_item_are_invalid():

    student, rows = tiny_student(), random_rows(25)
    every = np.stack(np.unravel_index(np.arange(CODES**LEVELS), (CODES,) * LEVELS), 1).astype(np.uint8)
    histories = Sequences.from_lists([[], [3], [1, 2, 3, 4, 5, 6, 7, 8]])
    ranked = UnconstrainedRanker(StudentRanker(student, rows, beam=CODES**LEVELS)).rank(histories, 30, False)
    named = {tuple(row): i for i, row in enumerate(rows.tolist())}
    for row, history in enumerate(histories):
        best = np.argsort(-brute_force(student, rows[history[-6:]].astype(np.int64), every))[:30]
        assert ranked[row].tolist() == [named.get(tuple(sid), INVALID) for sid in every[best].tolist()]
    assert (ranked == INVALID).any()
