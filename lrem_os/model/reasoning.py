"""From generated text to keywords: LREM's rules (step A3), and the keywords of several samples together. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lrem_os.types import Reasoning

MAX_KEYWORDS = 16  # of all samples together: about as many as a text leg profits from before they drown the query

_SEPARATORS = re.compile(r"[,;，、；\r\n\v\f\x85\u2028\u2029]")
_BULLET = re.compile(r"^(?:[-*•·–]|\d{1,2}[.)])\s+")  # chat models like lists
_WORD = re.compile(r"[^\W_]+")  # an underscore is punctuation here, as it is at a keyword's edges
_EDGES = " .:!?\"'`*_“”„‘’"
_LONGEST_CYCLE = 4  # words; a small model repeats one or two
_MIN_REPEATS = 3  # twice may be meant: yo yo, choo choo train, Duran Duran


def reasoning_of(row: Mapping[str, Any]) -> Reasoning:
    """Return the reasoning that orjson wrote as this object; it writes NaN as null.

    Raises:
        KeyError, TypeError, ValueError: It is something else.
    """
    return Reasoning(
        keywords=tuple(map(str, row["keywords"])),
        text=str(row["text"]),
        num_tokens=int(row["num_tokens"]),
        truncated=bool(row["truncated"]),
        confidence=math.nan if row["confidence"] is None else float(row["confidence"]),
    )


def parse_reasoning(
    text: str,
    query: str,
    *,
    banned: Iterable[str] = (),
    num_tokens: int = 0,
    truncated: bool = False,
    confidence: float = math.nan,
) -> Reasoning:
    """Return the keywords of a generated text, after the rules; none may be left.

    Keywords are what stands between commas, semicolons and line breaks. Words are compared without case and plural.
    A keyword goes when it was written before, when the query has all of its words (one that adds a word stays: "red
    shoes" goes for "shoes in red", "red canvas shoes" stays), or when it holds a banned phrase as whole words. Words
    that repeat three times and more in a row are written once. Of a text that the token limit ended, the last keyword
    goes, since it may end inside a word; if it is the only one, its last word alone goes.

    Args:
        text: As generated.
        query: What it is about.
        banned: Phrases that no keyword may hold.
        num_tokens: Tokens generated.
        truncated: Whether the limit ended the text.
        confidence: Of the generation.

    Source: LREM § 3.2, rules after the two calls ("overlapping" is not defined there).
    """
    known, forbidden = set(_words(query)), [words for phrase in banned if (words := _words(phrase))]
    kept: dict[tuple[str, ...], str] = {}
    for part in _whole_parts(text, truncated=truncated):
        plain = " ".join(part.split()).strip(_EDGES)  # split knows more kinds of white space than the edges name
        keyword = _without_cycles(_BULLET.sub("", plain).strip(_EDGES))
        words = _words(keyword)
        if not words or known.issuperset(words) or any(_holds(words, phrase) for phrase in forbidden):
            continue
        kept.setdefault(words, keyword)
    return Reasoning(
        keywords=tuple(kept.values()), text=text, num_tokens=num_tokens, truncated=truncated, confidence=confidence
    )


def combine_keywords(reasonings: Sequence[Reasoning], *, max_keywords: int = MAX_KEYWORDS) -> dict[str, int]:
    """Return keywords with the number of samples that named each, most first, at most ``max_keywords``.

    Keywords that differ in case or plural are one, spelt as met first; equal numbers keep the order of writing.

    >>> one, two = Reasoning(keywords=("mat", "yoga block")), Reasoning(keywords=("Yoga blocks", "strap"))
    >>> combine_keywords([one, two])
    {'yoga block': 2, 'mat': 1, 'strap': 1}
    """
    spelling: dict[tuple[str, ...], str] = {}
    counts: dict[tuple[str, ...], int] = {}
    for reasoning in reasonings:
        named = {_words(keyword): keyword for keyword in reversed(reasoning.keywords)}  # one sample, one vote
        for words, keyword in reversed(named.items()):
            spelling.setdefault(words, keyword)
            counts[words] = counts.get(words, 0) + 1
    best = sorted(counts, key=lambda words: -counts[words])[:max_keywords]
    return {spelling[words]: counts[words] for words in best}


def _whole_parts(text: str, *, truncated: bool) -> list[str]:
    """Return what stands between separators, without what the limit may have cut inside a word."""
    parts = _SEPARATORS.split(text)
    if not truncated or not parts[-1].strip():
        return parts
    whole, last = parts[:-1], parts[-1]
    return whole if any(part.strip() for part in whole) else [" ".join(last.split()[:-1])]


def _without_cycles(keyword: str) -> str:
    """Return the keyword with every run of three or more equal groups of words as one group.

    >>> _without_cycles("red red red red bag"), _without_cycles("yo yo"), _without_cycles("big cup big cup big cup big")
    ('red bag', 'yo yo', 'big cup big')
    """
    words = keyword.split()
    for size in range(1, _LONGEST_CYCLE + 1):
        kept: list[str] = []
        start = 0
        while start < len(words):
            group = [word.casefold() for word in words[start : start + size]]
            end = start + size
            while [word.casefold() for word in words[end : end + size]] == group:
                end += size
            if end - start >= _MIN_REPEATS * size:
                kept += words[start : start + size]
                start = end
            else:
                kept.append(words[start])
                start += 1
        words = kept
    return " ".join(words)


def _words(text: str) -> tuple[str, ...]:
    """Return the words in the form in which they are compared."""
    return tuple(_singular(word) for word in _WORD.findall(text.casefold()))


def _singular(word: str) -> str:
    """Return an English word without the plural's ending, where that is plain.

    >>> [_singular(word) for word in ("bags", "batteries", "glasses", "glass", "bus", "boxes", "usb")]
    ['bag', 'battery', 'glass', 'glass', 'bus', 'box', 'usb']
    """
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def _holds(words: tuple[str, ...], phrase: tuple[str, ...]) -> bool:
    """Return whether the phrase stands in the words, in one piece."""
    return any(words[start : start + len(phrase)] == phrase for start in range(len(words) - len(phrase) + 1))
