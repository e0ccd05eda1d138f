"""Measures: their names, what they mean, and their values per query. The only module that touches ranx.

ranx is imported when a measure is computed: it costs seconds, and on its first use on a machine it compiles itself.
It is handed numbered documents in rows that are already in order, so neither its hashing of ids nor its unstable sort
takes part.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrem_os.errors import InputError
from lrem_os.extras import require

Values = npt.NDArray[np.float64]
"""One measure's values, shape (number of queries,)."""

MAX_CUTOFF = 10_000  # OpenSearch answers no deeper (index.max_result_window)


@dataclass(frozen=True, slots=True)
class Definition:
    """What a measure is.

    Args:
        ranx: Its function in ``ranx.metrics``; empty when it is computed here.
        graded: Whether grades count as gains; otherwise a product is relevant or not.
        text: One line for people.
    """

    ranx: str
    graded: bool
    text: str


# HitRate: LREM (arXiv 2510.14321) §4 uses it for the share of the relevant items found, which elsewhere is called
# recall; ranx and others call "hit rate" what trec_eval calls success. Hence both, under names that cannot be mixed up.
DEFINITIONS: Mapping[str, Definition] = {
    "ndcg": Definition(
        "ndcg", True, "discounted gain over the ideal order's; gain = grade (linear), discount log2(rank+1)"
    ),
    "hitrate": Definition(
        "recall", False, "share of the relevant products found in the top k (HitRate of LREM; = recall@k)"
    ),
    "recall": Definition("recall", False, "share of the relevant products found in the top k"),
    "precision": Definition("precision", False, "relevant products in the top k, divided by k even if fewer came back"),
    "success": Definition(
        "hit_rate", False, "1 if any relevant product is in the top k, else 0 (ranx calls it hit_rate)"
    ),
    "mrr": Definition("reciprocal_rank", False, "1 / rank of the first relevant product in the top k, else 0"),
    "judged": Definition("", False, "share of the top k that has a judgment, of whatever grade"),
}

_AMBIGUOUS = {"hit_rate", "hit-rate", "hits", "hit", "hr"}
_ELSEWHERE = {"p": "precision", "r": "recall", "rr": "mrr"}


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure at a cutoff; its text is ``name@cutoff``."""

    name: str
    cutoff: int

    def __str__(self) -> str:
        return f"{self.name}@{self.cutoff}"


def parse_measure(text: str) -> Measure:
    """Return the measure that a text like ``ndcg@10`` names; upper case is read as lower case.

    Raises:
        InputError: No such measure, no cutoff, or a cutoff out of range.

    >>> parse_measure("nDCG@10")
    Measure(name='ndcg', cutoff=10)
    """
    name, at, cutoff = text.strip().lower().partition("@")
    if name not in DEFINITIONS:
        raise InputError(f"no measure is called {text.strip()!r}{_did_you_mean(name)}", hint=_known())
    if not at:
        raise InputError(f"measure {name!r} has no cutoff", hint=f"write for example {name}@10")
    if not re.fullmatch(r"[0-9]{1,5}", cutoff) or not 1 <= int(cutoff) <= MAX_CUTOFF:
        raise InputError(f"measure {text.strip()!r}: the cutoff is {cutoff!r}, want an integer from 1 to {MAX_CUTOFF}")
    return Measure(name, int(cutoff))


def parse_measures(texts: Iterable[str]) -> tuple[Measure, ...]:
    """Return the measures in the order given, each once.

    Raises:
        InputError: None was given, or one cannot be used.
    """
    measures = tuple(dict.fromkeys(parse_measure(text) for text in texts))
    if not measures:
        raise InputError("no measure was given", hint=_known())
    return measures


def measure_queries(
    measures: Sequence[Measure],
    ranked: Sequence[Sequence[str]],
    judged: Sequence[Mapping[str, int]],
    *,
    min_grade: int = 1,
) -> dict[Measure, Values]:
    """Return every measure's value for every query.

    Args:
        measures: What to compute.
        ranked: Per query the document ids, best first, none twice; empty counts 0.
        judged: Per query, in the same order, document id → grade.
        min_grade: A product is relevant from this grade on. nDCG is graded and does not look at it.

    Raises:
        DependencyMissing: ranx is not installed.
    """
    if not ranked:
        return {measure: np.zeros(0) for measure in measures}
    numbered = [_numbered(docs, grades) for docs, grades in zip(ranked, judged, strict=True)]
    return {
        measure: _ranx(measure, numbered, min_grade)
        if DEFINITIONS[measure.name].ranx
        else np.array([_judged(docs, grades, measure.cutoff) for docs, grades in zip(ranked, judged, strict=True)])
        for measure in measures
    }


def _numbered(docs: Sequence[str], grades: Mapping[str, int]) -> tuple[Values, Values]:
    """Return judgments (J, 2) and ranking (R, 2) as ranx wants them: rows of (document number, value), best first."""
    number = {doc_id: idx for idx, doc_id in enumerate(dict.fromkeys((*grades, *docs)))}
    by_grade = sorted(grades.items(), key=lambda item: -item[1])  # ranx takes this order for the ideal one
    qrels = np.array([(number[doc_id], grade) for doc_id, grade in by_grade], dtype=np.float64).reshape(-1, 2)
    run = np.array([(number[doc_id], -rank) for rank, doc_id in enumerate(docs)], dtype=np.float64).reshape(-1, 2)
    return qrels, run


def _ranx(measure: Measure, numbered: Sequence[tuple[Values, Values]], min_grade: int) -> Values:
    metrics = require("ranx.metrics", extra="eval")  # not ranx.evaluate: it fails on one measure without the mean
    typed_list = require("numba.typed", extra="eval").List
    definition = DEFINITIONS[measure.name]
    with warnings.catch_warnings():
        # numba, while it compiles ranx's loops over queries; the loop index is the number of a query
        warnings.filterwarnings("ignore", message=r"\s*unsafe cast from uint64 to int64")
        values = getattr(metrics, definition.ranx)(
            typed_list([qrels for qrels, _ in numbered]),
            typed_list([run for _, run in numbered]),
            k=measure.cutoff,
            rel_lvl=1 if definition.graded else min_grade,
        )
    return np.asarray(values, dtype=np.float64)


def _judged(docs: Sequence[str], grades: Mapping[str, int], cutoff: int) -> float:
    """Return the share of the first documents that is judged; of those that came back, as ir_measures counts."""
    top = docs[:cutoff]
    return sum(doc_id in grades for doc_id in top) / len(top) if top else 0.0


def _did_you_mean(name: str) -> str:
    if name in _AMBIGUOUS:
        return ": do you mean 'hitrate' (the share of the relevant found) or 'success' (1 if any is found)?"
    near = [_ELSEWHERE[name]] if name in _ELSEWHERE else difflib.get_close_matches(name, DEFINITIONS, n=1)
    return f": do you mean {near[0]!r}?" if near else ""


def _known() -> str:
    return "known are " + ", ".join(f"{name}@k" for name in DEFINITIONS)
