"""How a text falls into words, in any script."""

from __future__ import annotations

import pytest

from pocketrec.runtime.experts.tokens import words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("OPI Nail-Lacquer, 0.5 Ounce", ["opi", "nail", "lacquer", "0", "5", "ounce"]),
        ("Crème brûlée", ["crème", "brûlée"]),
        ("Cre\u0300me", ["crème"]),
        ("ﬁne ＡＢＣ", ["fine", "abc"]),
        ("洗发水 shampoo", ["洗发", "发水", "shampoo"]),
        ("シャンプー", ["シャ", "ャン", "ンプ", "プー"]),
        ("水", ["水"]),
        ("snake_case", ["snake", "case"]),
        ("", []),
        (" – !", []),
    ],
)
def test_a_text_falls_into_words(text, words):
    assert words_of(text) == words
