"""Queries as careless shoppers write them. Pure: the same text, family and seed give the same query on any machine.

A family has several ways; of those that can do something with a query one is drawn. Where none can (one word has no
order), the query stays as it is, and says so.

Source: "On the Robustness of LLM-Based Dense Retrievers" (arXiv 2604.16576), § protocol: families, seeds, protected
words, one variant a query. Ours differ in: words are dropped, never summarised; synonyms pass no similarity filter
(there is none without a hub); negations are never dropped. ``docs/robustness.md`` says why.
"""

from __future__ import annotations

import hashlib
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from lrem_os.eval.robustness.words import (
    NEGATIONS,
    STOP_WORDS,
    Synonyms,
    Word,
    find_words,
    is_function_word,
    phrases,
)
from lrem_os.types import Query

SEEDS = (1999, 5, 27, 2016, 2026)
"""The seeds of arXiv 2604.16576."""

FAMILIES = ("misspelling", "order", "synonyms", "paraphrase", "dropped")
"""All that there is; ``synonyms`` and ``paraphrase`` need something from the user."""

_MIN_CHARS = 3  # shorter words are not misspelt
_DROPPED_SHARE = 0.2
_NEIGHBOURS = {
    **dict(zip("qwertyuiop", ("wa", "qes", "wrd", "etf", "ryg", "tuh", "yij", "uok", "ipl", "ol"), strict=True)),
    **dict(zip("asdfghjkl", ("qsz", "awdx", "sefc", "drgv", "fthb", "gyjn", "hukm", "jil", "kop"), strict=True)),
    **dict(zip("zxcvbnm", ("ax", "zcs", "xvd", "cbf", "vng", "bmh", "nj"), strict=True)),
    **dict(zip("1234567890", ("2", "13", "24", "35", "46", "57", "68", "79", "80", "9"), strict=True)),
}  # letters that touch on an American keyboard


@dataclass(frozen=True, slots=True)
class Variant:
    """A perturbed query.

    Args:
        text: What is asked; never blank unless the query was.
        way: How it came about (``swap``, ``stop-words``, …); empty: nothing could be done, and it is as it was.
    """

    text: str
    way: str = ""


class Dice:
    """Numbers that depend on their key alone: not on the machine, the version of Python, or what was asked before."""

    def __init__(self, *key: object) -> None:
        self._key = "\0".join(map(str, key)).encode("utf-8", "surrogatepass")
        self._rolls = 0

    def roll(self, sides: int) -> int:
        """Return a number from 0 to ``sides`` - 1."""
        self._rolls += 1
        digest = hashlib.blake2b(self._rolls.to_bytes(4, "big") + self._key, digest_size=8).digest()
        return int.from_bytes(digest, "big") % sides

    def pick(self, values: Sequence[str]) -> str:
        """Return one of the values."""
        return values[self.roll(len(values))]

    def shuffled(self, count: int) -> list[int]:
        """Return the numbers from 0 to ``count`` - 1 in some order."""
        order = list(range(count))
        for last in range(count - 1, 0, -1):
            other = self.roll(last + 1)
            order[last], order[other] = order[other], order[last]
        return order


Way = Callable[[str, Dice], str | None]
"""From a text to its variant; ``None`` where it can do nothing with the text."""


def perturb(text: str, ways: Mapping[str, Way], *, family: str, seed: int) -> Variant:
    """Return one variant of a text, by one of the ways that can do something with it.

    >>> perturb("red running shoes", MISSPELLING, family="misspelling", seed=5)
    Variant(text='ref running shoes', way='qwerty')
    """
    dice = Dice(seed, family, text)
    names = sorted(ways)
    for place in dice.shuffled(len(names)):
        name = names[place]
        changed = ways[name](text, Dice(seed, family, text, name))
        if changed is not None and changed.split() != text.split() and changed.strip():
            return Variant(changed, name)
    return Variant(text)


def perturb_queries(
    queries: Sequence[Query], ways: Mapping[str, Way], *, family: str, seed: int
) -> tuple[list[Query], dict[str, str]]:
    """Return the queries with other texts, ids unchanged, and how each that changed was changed: id → way."""
    variants = {query.query_id: perturb(query.text, ways, family=family, seed=seed) for query in queries}
    changed = {query_id: variant.way for query_id, variant in variants.items() if variant.way}
    return [replace(query, text=variants[query.query_id].text) for query in queries], changed


def order(text: str, dice: Dice) -> str | None:
    """Exchange two words that differ."""
    words = find_words(text)
    pairs = [
        (first, second) for place, first in enumerate(words) for second in words[place + 1 :] if first.key != second.key
    ]
    if not pairs:
        return None
    first, second = pairs[dice.roll(len(pairs))]
    return f"{text[: first.start]}{second.text}{text[first.end : second.start]}{first.text}{text[second.end :]}"


def drop_stop_words(text: str, dice: Dice) -> str | None:  # noqa: ARG001 - a Way
    """Drop all stop words; ``None`` where there are none, or nothing else."""
    words = find_words(text)
    stops = [word for word in words if word.key in STOP_WORDS]
    return _without(text, stops) if 0 < len(stops) < len(words) else None


def drop_some(text: str, dice: Dice) -> str | None:
    """Drop 20 % of the words at random, at least one, never a negation and never all."""
    words = find_words(text)
    droppable = [word for word in words if word.key not in NEGATIONS]
    if len(words) < 2 or not droppable:
        return None
    count = min(max(1, round(_DROPPED_SHARE * len(words))), len(droppable), len(words) - 1)
    return _without(text, [droppable[place] for place in dice.shuffled(len(droppable))[:count]])


def synonym_ways(synonyms: Synonyms) -> dict[str, Way]:
    """Return the way that puts a synonym in the place of one word or phrase."""

    def swap(text: str, dice: Dice) -> str | None:
        found = [
            (first.start, last.end, targets)
            for first, last, key in phrases(find_words(text))
            if not (first is last and is_function_word(first)) and (targets := synonyms(key))
        ]
        if not found:
            return None
        start, end, targets = found[dice.roll(len(found))]
        return text[:start] + dice.pick(targets) + text[end:]

    return {"synonym": swap}


def _misspell(edit: Callable[[str, int, Dice], str | None]) -> Way:
    """Return the way that edits one word in one place."""

    def way(text: str, dice: Dice) -> str | None:
        for word in _shuffled(_misspellable(text), dice):
            for place in dice.shuffled(len(word.text)):
                changed = edit(word.text, place, dice)
                if changed is not None:
                    return text[: word.start] + changed + text[word.end :]
        return None

    return way


def _misspellable(text: str) -> list[Word]:
    return [word for word in find_words(text) if len(word.text) >= _MIN_CHARS and not is_function_word(word)]


def _shuffled(words: Sequence[Word], dice: Dice) -> Iterator[Word]:
    return (words[place] for place in dice.shuffled(len(words)))


def _swap(word: str, place: int, dice: Dice) -> str | None:  # noqa: ARG001
    if place + 1 == len(word) or word[place].casefold() == word[place + 1].casefold():
        return None
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _substitute(word: str, place: int, dice: Dice) -> str | None:
    return _replace(word, place, [char for char in string.ascii_lowercase if char != word[place].casefold()], dice)


def _qwerty(word: str, place: int, dice: Dice) -> str | None:
    return _replace(word, place, list(_NEIGHBOURS.get(word[place].casefold(), "")), dice)


def _delete(word: str, place: int, dice: Dice) -> str | None:  # noqa: ARG001
    return word[:place] + word[place + 1 :]


def _insert(word: str, place: int, dice: Dice) -> str | None:
    return word[:place] + dice.pick(string.ascii_lowercase) + word[place:]


def _replace(word: str, place: int, chars: Sequence[str], dice: Dice) -> str | None:
    if not chars:
        return None
    char = dice.pick(chars)
    return word[:place] + (char.upper() if word[place].isupper() else char) + word[place + 1 :]


def _without(text: str, words: Sequence[Word]) -> str:
    for word in sorted(words, key=lambda word: -word.start):
        text = f"{text[: word.start]} {text[word.end :]}"
    return " ".join(text.split())


MISSPELLING: Mapping[str, Way] = {
    "swap": _misspell(_swap),
    "substitute": _misspell(_substitute),
    "qwerty": _misspell(_qwerty),
    "delete": _misspell(_delete),
    "insert": _misspell(_insert),
}
"""One edit in one word: neighbours swapped, a random or a neighbouring key struck, a letter lost or too many."""

ORDER: Mapping[str, Way] = {"exchange": order}
DROPPED: Mapping[str, Way] = {"stop-words": drop_stop_words, "some-words": drop_some}
