"""How a text falls into words, in any script."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pocketrec.runtime.experts.tokens import spelling, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("OPI Nail-Lacquer, 0.5 Ounce", ["opi", "nail", "lacquer", "0", "5", "ounce"]),
        ("B004-XY7 spf50", ["b004", "xy7", "spf50"]),
        ("Crème brûlée", ["creme", "brulee"]),
        ("Cre\u0300me", ["creme"]),
        ("ﬁne ＡＢＣ", ["fine", "abc"]),
        ("Žižek İstanbul", ["zizek", "istanbul"]),
        ("snake_case é", ["snake", "case", "e"]),
        ("Ёлка, Ψυχή", ["елка", "ψυχη"]),
        ("한국어 책", ["한국어", "책"]),
        ("किताबें हिन्दी।", ["किताबें", "हिन्दी"]),
        ("كِتَاب كتاب", ["كتاب", "كتاب"]),
        ("סֵפֶר", ["ספר"]),
        ("", []),
        (" – !", []),
    ],
)
def test_a_text_falls_into_words(text, words):
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("洗发水 shampoo", ["洗发", "发水", "shampoo"]),
        ("水", ["水"]),
        ("シャンプー", ["シャ", "ャン", "ンプ", "プー"]),
        ("ガラス", ["ガラ", "ラス"]),
        ("ジョン・レノン", ["ジョ", "ョン", "レノ", "ノン"]),
        ("ﾗｰﾒﾝ", ["ラー", "ーメ", "メン"]),
        ("人々", ["人々"]),
        ("𠮷野家", ["𠮷野", "野家"]),
        ("iPhone用ケース", ["iphone", "用ケ", "ケー", "ース"]),
        ("สบู่", ["สบุ"[:2] + "ู", "บู่"]),
        ("ตา", ["ตา"]),
        ("ភាសា", ["ភាស", "ាសា"]),
    ],
)
def test_a_script_without_spaces_gives_runs_of_characters(text, words):
    assert words_of(text) == words


def test_a_word_is_shown_as_the_text_spells_it():
    assert spelling("L'ORÉAL Crème, हिन्दी 洗发水 x") == {
        "l": "l", "oreal": "oréal", "creme": "crème", "हिन्दी": "हिन्दी", "x": "x",
    }  # fmt: skip


@given(st.text(max_size=40))
def test_case_and_form_of_a_text_do_not_matter(text):
    assert (
        words_of(unicodedata.normalize("NFKC", text)) == words_of(unicodedata.normalize("NFKD", text)) == words_of(text)
    )
    assert all(words_of(text))


@given(st.text(st.characters(max_codepoint=127), max_size=40))
def test_the_short_way_of_ascii_gives_the_same_words(text):
    assert words_of(text) == words_of(text + " \u2013")
