"""What the gate reads about a query: from its text and direct vector, and from what direct retrieval found. Pure.

The length of a query is no feature: on judged queries it separates easy from hard almost perfectly and means nothing,
since a long query that names the product is easy and a single word of another culture is hard. Where a feature would
grow with the number of words, it is a share. The share of function words is left out as well: it is length by another
name (AUC 0.95 for hard on judged queries, 0.04 where length misleads).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrem_os.query_plugin.routing.signals import PROBE_DEPTH, Leg, Signals
from lrem_os.text import render_value

FEATURES_VERSION = 1
"""Raised whenever a feature's name or meaning changes: a gate fits one version."""

BEFORE = (
    "question",
    "negation",
    "comparison",
    "digits",
    "unknown_words",
    "rarest_word",
    "mean_rarity",
    "brand",
    "distance",
)
"""Known before retrieval."""

AFTER = (
    "top_cosine",
    "level_cosine",
    "margin_cosine",
    "clarity",
    "bm25_per_word",
    "bm25_level",
    "bm25_margin",
    "bm25_hits",
    "overlap",
    "cross_rank",
    "vector_hits",
)
"""Known after direct retrieval."""

NEEDS_CATALOG = frozenset({"unknown_words", "rarest_word", "mean_rarity", "brand"})
"""Those that are 0 without a catalog's words."""

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_QUESTIONS = frozenset(_WORD.findall("what which how where who when why can could should do does is are will would"))
_NEGATIONS = frozenset(
    _WORD.findall("not no non without except excluding but nothing never anything minus avoid free nor")
)
_COMPARISONS = re.compile(
    r"\b(?:like|dupes?|alternatives?|similar|instead|replacements?|substitutes?|look-?a-?likes?|than|cheaper|vs|versus|"
    r"stand-?ins?|knock-?offs?|style|inspired|equivalent|closest|same as|rather)\b"
)
_FUNCTION_WORDS = frozenset(
    _WORD.findall(
        """a about all am an and any are as at be because been before being but by can cannot could did do does
        doing don't for from get had has have having he her here him his how i i'm if in into is it its just keep
        like make me more most my need never no nor not of off on only or other our out over own put same she
        should so some something such than that the their them then there these they thing things this those
        through to too up use used very want was we were what when where which while who whom why will with
        without would you your"""
    )
)
_TOP = 10


@dataclass(frozen=True, slots=True)
class Lexicon:
    """The words of a catalog.

    Args:
        num_documents: Products counted.
        counts: Per lower-case word, in how many products it stands.
        brands: Lower-case brands.
    """

    num_documents: int = 0
    counts: Mapping[str, int] = field(default_factory=dict)
    brands: frozenset[str] = frozenset()

    def rarity(self, word: str) -> float:
        """Return how rare a word is: 0 in every product, 1 in one of them or none."""
        if self.num_documents < 2:
            return 0.0
        return 1 - math.log(max(1, self._count(word))) / math.log(self.num_documents)

    def knows(self, word: str) -> bool:
        """Return whether a product has the word, perhaps in the other number."""
        return self._count(word) > 0

    def _count(self, word: str) -> int:
        forms = (word, word.removesuffix("s"), word.removesuffix("es"), f"{word}s")
        return max(self.counts.get(form, 0) for form in forms)


@dataclass(frozen=True, slots=True)
class Landmarks:
    """What a gate remembers of its training: the catalog's words, and where its training queries lie.

    Args:
        lexicon: Words of the catalog; empty: features of the catalog are 0.
        vectors: Unit vectors of typical training queries, shape (K, D), K may be 0.
    """

    lexicon: Lexicon = field(default_factory=Lexicon)
    vectors: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case.

    >>> words_of("What's a non-stick pan?")
    ["what's", 'a', 'non-stick', 'pan']
    """
    return [word.replace("’", "'") for word in _WORD.findall(text.lower())]


def build_lexicon(rows: Iterable[Mapping[str, Any]], fields: Sequence[str], *, brand: str = "brand") -> Lexicon:
    """Return the words of a catalog.

    Args:
        rows: Its products.
        fields: Those whose words count.
        brand: The field with the brand.
    """
    counts: Counter[str] = Counter()
    brands: set[str] = set()
    num_documents = 0
    for row in rows:
        num_documents += 1
        words = words_of(" ".join(render_value(row.get(name)) for name in fields))
        counts.update({*words, *(part for word in words for part in re.split("[-']", word))} - {""})
        if row.get(brand):
            brands.add(" ".join(words_of(str(row[brand]))))
    return Lexicon(num_documents, dict(counts), frozenset(brands))


def phrasing(text: str) -> str:
    """Return how a query is put: ``negation``, ``comparison``, ``question`` (the first that fits) or ``plain``.

    >>> phrasing("sofa without arms"), phrasing("red sofa")
    ('negation', 'plain')
    """
    words = words_of(text)
    if _is_negated(words):
        return "negation"
    if _is_comparison(text):
        return "comparison"
    return "question" if _is_question(text, words) else "plain"


def features_before(text: str, vector: NDArray[np.float32], landmarks: Landmarks) -> dict[str, float]:
    """Return the features of the text and its direct unit vector, shape (D,): all of ``BEFORE``."""
    words = words_of(text)
    num = max(1, len(words))
    content = [word for word in words if word not in _FUNCTION_WORDS] or words
    return {
        "question": float(_is_question(text, words)),
        "negation": float(_is_negated(words)),
        "comparison": float(_is_comparison(text)),
        "digits": sum(any(char.isdigit() for char in word) for word in words) / num,
        **_catalog_features(words, content, landmarks.lexicon),
        "distance": _distance(vector, landmarks.vectors),
    }


def features_after(text: str, signals: Signals) -> dict[str, float]:
    """Return the features of what direct retrieval found: all of ``AFTER``.

    Source: score level and margins, clarity: Shtok et al., "Predicting query performance by query drift estimation"
    (NQC, 2012); agreement of rankings: Aslam & Pavlu (2007). A leg that found nothing gives zeros.
    """
    bm25 = signals.bm25
    cosines = [_cosine(score) for score in signals.vector.scores]
    words = words_of(text)
    num = max(1, sum(word not in _FUNCTION_WORDS for word in words) or len(words))
    return {
        "top_cosine": cosines[0] if cosines else 0.0,
        "level_cosine": _mean(cosines[:_TOP]),
        "margin_cosine": cosines[0] - _mean(cosines[:_TOP]) if cosines else 0.0,
        "clarity": _spread(cosines),
        "bm25_per_word": bm25.scores[0] / num if bm25.scores else 0.0,
        "bm25_level": _mean(bm25.scores[:_TOP]) / num,
        "bm25_margin": 1 - _mean(bm25.scores[:_TOP]) / bm25.scores[0] if bm25.scores and bm25.scores[0] > 0 else 0.0,
        "bm25_hits": len(bm25.ids) / PROBE_DEPTH,
        "overlap": _overlap(bm25, signals.vector),
        "cross_rank": _cross_rank(bm25, signals.vector),
        "vector_hits": len(signals.vector.ids) / PROBE_DEPTH,
    }


def _is_question(text: str, words: Sequence[str]) -> bool:
    return "?" in text or (bool(words) and words[0].split("'")[0] in _QUESTIONS)


def _is_negated(words: Sequence[str]) -> bool:
    return any(word in _NEGATIONS or word.endswith(("n't", "-free")) for word in words)


def _is_comparison(text: str) -> bool:
    return _COMPARISONS.search(text.lower()) is not None


def _catalog_features(words: Sequence[str], content: Sequence[str], lexicon: Lexicon) -> dict[str, float]:
    rarities = [lexicon.rarity(word) for word in content]
    text = f" {' '.join(words)} "
    known = lexicon.num_documents > 0
    return {
        "unknown_words": sum(not lexicon.knows(word) for word in content) / max(1, len(content)) if known else 0.0,
        "rarest_word": max(rarities, default=0.0),
        "mean_rarity": _mean(rarities),
        "brand": float(any(f" {brand} " in text for brand in lexicon.brands)),
    }


def _distance(vector: NDArray[np.float32], landmarks: NDArray[np.float32]) -> float:
    """Return one minus the cosine of the nearest landmark; 0 where there is none, or of another model."""
    if not len(landmarks) or landmarks.shape[1] != len(vector):
        return 0.0
    return float(1 - (landmarks @ vector).max())


def _cosine(score: float) -> float:
    """Return the cosine that OpenSearch's score of an inner product of unit vectors stands for.

    Source: OpenSearch documentation, "Spaces": 1 + ip for ip >= 0, else 1 / (1 - ip).
    """
    return score - 1 if score >= 1 else 1 - 1 / max(score, 1e-6)


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def _spread(cosines: Sequence[float]) -> float:
    """Return the standard deviation of the best hits' cosines: a clear answer stands out of the rest."""
    mean = _mean(cosines)
    return math.sqrt(_mean([(cosine - mean) ** 2 for cosine in cosines]))


def _overlap(bm25: Leg, vector: Leg) -> float:
    """Return the share of the best ten that both legs found."""
    first, second = set(bm25.ids[:_TOP]), set(vector.ids[:_TOP])
    return len(first & second) / max(1, min(_TOP, max(len(first), len(second))))


def _cross_rank(bm25: Leg, vector: Leg) -> float:
    """Return the mean reciprocal rank of each leg's best hit in the other leg."""
    return (_reciprocal_rank(bm25, vector) + _reciprocal_rank(vector, bm25)) / 2


def _reciprocal_rank(best_of: Leg, ranked_by: Leg) -> float:
    if not best_of.ids or best_of.ids[0] not in ranked_by.ids:
        return 0.0
    return 1 / (1 + ranked_by.ids.index(best_of.ids[0]))
