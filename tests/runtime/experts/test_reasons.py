"""Shared words by text, and the sentence."""

from __future__ import annotations

from pocketrec.distill.experts.words import build_words
from pocketrec.runtime.catalogue.item_table import ItemTable
from pocketrec.runtime.experts.reasons import Reason, sentence, shared_words

TITLES = ["Vegan shampoo", "Soap", "shampoo bar", "bar soap", "Vegan shampoo bar", "Candle"]


def table_of(titles):
    return ItemTable.from_lists([f"item-{i}" for i in range(len(titles))], titles)


def test_shared_words_are_named_from_titles_the_most_telling_first():
    index = build_words(TITLES)
    assert shared_words(index, table_of(TITLES), 0, 4) == ("vegan", "shampoo")
    assert shared_words(index, table_of(TITLES), 3, 2) == ("bar",)
    assert shared_words(index, table_of(TITLES), 0, 1) is None


def test_words_that_titles_lack_are_not_named():
    """The index was built from categories too: "care" is in two texts, and in one title."""
    index = build_words(["oil care", "comb care", "care bear"])
    assert shared_words(index, table_of(["oil", "comb", "care bear"]), 0, 1) == ()
    assert shared_words(index, table_of(["care oil", "care comb", "bear"]), 0, 1) == ()  # the third has it unnamed
    assert shared_words(index, table_of(["care oil", "care comb", "care"]), 0, 1) == ("care",)
    assert shared_words(index, ItemTable.from_lists(["a", "b", "c"]), 0, 1) == ()


def test_a_word_of_one_letter_is_not_named():
    index = build_words(["l oréal brush", "l oréal comb", "x"])
    assert shared_words(index, table_of(["L'Oréal brush", "L'Oréal comb", "x"]), 0, 1) == ("oréal",)


def test_the_sentence_names_reasons_in_their_order():
    assert sentence([Reason("crowd", "Soap"), Reason("words", "Balm", ("vegan", "bar", "mint"))]) == (
        "Because people who took Soap took it soon after, and because it shares “vegan”, “bar” and “mint” with Balm."
    )
    assert sentence([Reason("words", "Balm")]) == "Because it shares words with Balm."
    assert sentence([Reason("sequence")]) == "Because the model expects it after this history."
    assert sentence([]) == "Nothing in the history raises this item."
