from __future__ import annotations

import string
from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.eval.robustness.perturb import (
    DROPPED,
    MISSPELLING,
    ORDER,
    SEEDS,
    Dice,
    Way,
    drop_some,
    drop_stop_words,
    perturb,
    perturb_queries,
    synonym_ways,
)
from lrem_os.eval.robustness.words import NEGATIONS, STOP_WORDS, find_words
from lrem_os.types import Query

FAMILIES: Mapping[str, Mapping[str, Way]] = {"misspelling": MISSPELLING, "order": ORDER, "dropped": DROPPED}
SEED = st.integers(0, 10**6)
WORD = st.one_of(
    st.text(string.ascii_letters + string.digits + "äéß日本", min_size=1, max_size=9),
    st.sampled_from([*sorted(STOP_WORDS), *sorted(NEGATIONS)]),
)
QUERY = st.lists(WORD, min_size=1, max_size=8).map(" ".join)


def damerau_levenshtein(a: str, b: str) -> int:
    """Return the edits between two words: insert, delete, replace, exchange neighbours."""
    rows = [list(range(len(b) + 1))]
    for i in range(1, len(a) + 1):
        row = [i]
        for j in range(1, len(b) + 1):
            best = min(rows[i - 1][j] + 1, row[j - 1] + 1, rows[i - 1][j - 1] + (a[i - 1] != b[j - 1]))
            if i > 1 and j > 1 and a[i - 1] == b[j - 2] and a[i - 2] == b[j - 1]:
                best = min(best, rows[i - 2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


@given(QUERY, SEED, st.sampled_from(sorted(FAMILIES)))
def test_never_blank_always_the_same_and_changed_where_it_says_so(text: str, seed: int, family: str) -> None:
    variant = perturb(text, FAMILIES[family], family=family, seed=seed)
    assert variant.text.strip()
    assert variant == perturb(text, FAMILIES[family], family=family, seed=seed)
    assert (variant.text != text) == bool(variant.way)


@given(QUERY, SEED, st.sampled_from(sorted(MISSPELLING)))
def test_a_misspelling_is_one_edit_in_one_word_that_is_not_protected(text: str, seed: int, way: str) -> None:
    variant = perturb(text, {way: MISSPELLING[way]}, family="misspelling", seed=seed)
    free = [word for word in text.split() if len(word) >= 3 and word.casefold() not in STOP_WORDS | NEGATIONS]
    if not variant.way:
        assert not free or way in {"qwerty", "swap"}  # no such key beside it, or two equal characters
        return
    before, after = text.split(), variant.text.split()
    assert len(before) == len(after)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert len(changed) == 1
    old, new = changed[0]
    assert len(old) >= 3
    assert old.casefold() not in STOP_WORDS | NEGATIONS
    assert damerau_levenshtein(old, new) == 1
    assert len(new) - len(old) == {"delete": -1, "insert": 1}.get(way, 0)
    if way == "swap":
        assert sorted(old) == sorted(new)


@given(QUERY, SEED)
def test_order_exchanges_two_words_and_keeps_them_all(text: str, seed: int) -> None:
    variant = perturb(text, ORDER, family="order", seed=seed)
    before, after = text.split(), variant.text.split()
    assert Counter(before) == Counter(after)
    differing = sum(old != new for old, new in zip(before, after, strict=True))
    assert differing == (2 if variant.way else 0)
    assert bool(variant.way) == (len({word.casefold() for word in before}) > 1)


@given(QUERY, SEED)
def test_dropped_words_are_never_negations_and_never_all(text: str, seed: int) -> None:
    variant = perturb(text, DROPPED, family="dropped", seed=seed)
    before, after = text.split(), variant.text.split()
    gone = Counter(before) - Counter(after)
    assert not Counter(after) - Counter(before)
    assert not {word.casefold() for word in gone} & NEGATIONS
    if variant.way == "stop-words":
        assert {word.casefold() for word in gone} <= STOP_WORDS
        assert not {word.casefold() for word in after} & STOP_WORDS
    elif variant.way == "some-words":
        free = [word for word in before if word.casefold() not in NEGATIONS]
        assert gone.total() == min(max(1, round(0.2 * len(before))), len(free), len(before) - 1)


def test_the_variants_are_those_that_every_machine_makes() -> None:
    """Written down: a change here changes what every study before this one asked."""
    text = "noise cancelling headphones without wires under 100"
    made = {
        family: [perturb(text, ways, family=family, seed=seed).text for seed in SEEDS]
        for family, ways in FAMILIES.items()
    }
    assert made == EXPECTED


EXPECTED = {
    "misspelling": [
        "noise canceling headphones without wires under 100",
        "noise cancelling headphones without wires under 10j",
        "noise cancellung headphones without wires under 100",
        "noihse cancelling headphones without wires under 100",
        "noise cancellkng headphones without wires under 100",
    ],
    "order": [
        "noise cancelling without headphones wires under 100",
        "noise cancelling under without wires headphones 100",
        "100 cancelling headphones without wires under noise",
        "noise cancelling headphones wires without under 100",
        "without cancelling headphones noise wires under 100",
    ],
    "dropped": [
        "noise cancelling headphones without wires 100",
        "noise cancelling headphones without wires 100",
        "noise cancelling headphones without wires 100",
        "noise cancelling headphones without wires 100",
        "noise cancelling headphones without wires 100",
    ],
}


def test_seeds_and_families_differ() -> None:
    texts = {perturb("portable camping stove", MISSPELLING, family="misspelling", seed=seed).text for seed in range(40)}
    assert len(texts) > 15
    ways = Counter(
        perturb("portable camping stove", MISSPELLING, family="misspelling", seed=seed).way for seed in range(400)
    )
    assert set(ways) == set(MISSPELLING)
    assert min(ways.values()) > 40  # of 80 expected


def test_queries_keep_their_ids_and_types() -> None:
    queries = [Query("q1", "red running shoes", "easy", 3.0), Query("q2", "a", "qa")]
    changed, ways = perturb_queries(queries, MISSPELLING, family="misspelling", seed=5)
    assert [(query.query_id, query.type, query.frequency) for query in changed] == [
        ("q1", "easy", 3.0),
        ("q2", "qa", 1.0),
    ]
    assert changed[0].text != "red running shoes"
    assert changed[1] == queries[1]
    assert list(ways) == ["q1"]


@pytest.mark.parametrize("text", ["with the", "no", "without", "tv", ""])
def test_what_cannot_be_misspelt_stays(text: str) -> None:
    assert perturb(text, MISSPELLING, family="misspelling", seed=1).way == ""


def test_punctuation_and_blanks_around_the_edit_stay() -> None:
    variant = perturb("  (red)   SOFA-bed!", MISSPELLING, family="misspelling", seed=3)
    assert variant.way
    assert variant.text.startswith("  (")
    assert variant.text.endswith("!")
    assert len(find_words(variant.text)) == 3


def test_upper_case_stays_upper_case() -> None:
    for seed in range(30):
        variant = perturb("SONY", {"substitute": MISSPELLING["substitute"]}, family="misspelling", seed=seed)
        assert variant.text.isupper()


def test_all_stop_words_go_and_only_they() -> None:
    assert drop_stop_words("shoes for the beach, without laces", Dice(0)) == "shoes beach, without laces"
    assert drop_stop_words("red shoes", Dice(0)) is None
    assert drop_stop_words("the and of", Dice(0)) is None


def test_a_fifth_of_the_words_go() -> None:
    ten = "one two three four five six seven eight nine ten"
    assert len((drop_some(ten, Dice(1)) or "").split()) == 8
    assert drop_some("sofa", Dice(1)) is None
    assert drop_some("without", Dice(1)) is None
    assert drop_some("not red", Dice(1)) == "not"


def test_a_synonym_takes_the_place_of_a_word_or_phrase() -> None:
    table = {"sofa": ("couch",), "living room": ("lounge",)}
    ways = synonym_ways(lambda key: table.get(key, ()))
    found = {perturb("Sofa for the living room", ways, family="synonyms", seed=seed).text for seed in range(20)}
    assert found == {"couch for the living room", "Sofa for the lounge"}
    assert perturb("red shoes", ways, family="synonyms", seed=1).way == ""


def test_a_way_that_changes_nothing_is_passed_over() -> None:
    ways: dict[str, Way] = {
        "same": lambda text, _dice: text,
        "blank": lambda _text, _dice: " ",
        "none": lambda *_: None,
    }
    assert perturb("red sofa", ways, family="x", seed=0).way == ""


def test_dice_are_fair_enough_and_depend_on_their_key() -> None:
    counts = Counter(Dice(seed, "x").roll(6) for seed in range(6000))
    assert all(850 < counts[side] < 1150 for side in range(6))
    assert sorted(Dice("k").shuffled(50)) == list(range(50))
    assert Dice("a").shuffled(20) != Dice("b").shuffled(20)
