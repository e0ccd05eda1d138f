"""Measures: their names, what they mean, and their values per query. The only module that touches ranx.

ranx is imported when a measure is computed: it costs seconds, and on its first use on a machine it compiles itself.
It is handed documents that are numbered by their places, so neither its hashing of ids nor its unstable sort takes
part.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrem_os.errors import InputError
from lrem_os.extras import require

VIOLATION = "violation"
"""The measure that needs to know which documents break a query's exclusion."""

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
        less_is_better: Whether a smaller value is the better one.
    """

    ranx: str
    graded: bool
    text: str
    less_is_better: bool = False


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
    "map": Definition(
        "average_precision",
        False,
        "precision at each relevant product in the top k, summed, over all relevant products",
    ),
    "judged": Definition("", False, "share of the top k that has a judgment, of whatever grade"),
    VIOLATION: Definition("", False, "share of the top k that breaks the query's exclusion; less is better", True),
}

STANDARD = ("ndcg", "hitrate", "precision", "map", "mrr", "success", "judged")
"""What is measured where only cutoffs are named; recall@k would be hitrate@k again."""

_FEW = 100  # lists

_AMBIGUOUS = {"hit_rate", "hit-rate", "hits", "hit", "hr"}
_ELSEWHERE = {"p": "precision", "r": "recall", "rr": "mrr", "ap": "map"}


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure at a cutoff; its text is ``name@cutoff``."""

    name: str
    cutoff: int

    def __str__(self) -> str:
        return f"{self.name}@{self.cutoff}"

    @property
    def less_is_better(self) -> bool:
        """Whether a smaller value is the better one."""
        return DEFINITIONS[self.name].less_is_better


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
    return Measure(name, _cutoff(cutoff, f"measure {text.strip()!r}: "))


def parse_measures(texts: Iterable[str]) -> tuple[Measure, ...]:
    """Return the measures in the order given, each once.

    Raises:
        InputError: None was given, or one cannot be used.
    """
    measures = tuple(dict.fromkeys(parse_measure(text) for text in texts))
    if not measures:
        raise InputError("no measure was given", hint=_known())
    return measures


def parse_cutoffs(texts: Iterable[str]) -> tuple[int, ...]:
    """Return the cutoffs in the order given, each once. Raises ``InputError`` where one cannot be used, or for none.

    >>> parse_cutoffs(["10", "100", "10"])
    (10, 100)
    """
    cutoffs = tuple(dict.fromkeys(_cutoff(text.strip(), "") for text in texts))
    if not cutoffs:
        raise InputError("no cutoff was given", hint="write for example --k 10,100")
    return cutoffs


def standard_measures(cutoffs: Iterable[int], *, violations: bool = False) -> tuple[str, ...]:
    """Return the names of the usual measures at these cutoffs, cutoff by cutoff.

    >>> standard_measures([5], violations=True)
    ('ndcg@5', 'hitrate@5', 'precision@5', 'map@5', 'mrr@5', 'success@5', 'judged@5', 'violation@5')
    """
    names = (*STANDARD, VIOLATION) if violations else STANDARD
    return tuple(f"{name}@{cutoff}" for cutoff in cutoffs for name in names)


def measure_queries(
    measures: Sequence[Measure],
    ranked: Sequence[Sequence[str]],
    judged: Sequence[Mapping[str, int]],
    *,
    violating: Sequence[Collection[str] | None] | None = None,
    min_grade: int = 1,
) -> dict[Measure, Values]:
    """Return every measure's value for every query.

    Args:
        measures: What to compute.
        ranked: Per query the document ids, best first, none twice; empty counts 0.
        judged: Per query, in the same order, document id → grade.
        violating: Per query the documents that break its exclusion; none where it has no exclusion, and the value is
            NaN.
        min_grade: A product is relevant from this grade on. nDCG is graded and does not look at it.

    Raises:
        DependencyMissing: ranx is not installed.
    """
    if not ranked or not measures:
        return {measure: np.zeros(len(ranked)) for measure in measures}
    deepest = max(measure.cutoff for measure in measures)
    lists = [_Placed.of(docs, grades, deepest) for docs, grades in zip(ranked, judged, strict=True)]
    among = {"judged": judged, VIOLATION: violating or [None] * len(ranked)}
    values = {}
    engine = _Ranx(lists, deepest) if any(DEFINITIONS[measure.name].ranx for measure in measures) else None
    for measure in measures:
        definition = DEFINITIONS[measure.name]
        if definition.ranx and engine:
            values[measure] = engine.measure(definition, measure.cutoff, min_grade)
        else:
            pairs = zip(lists, among[measure.name], strict=True)
            values[measure] = np.array([_share(one.places, docs, measure.cutoff) for one, docs in pairs])
    return values


@dataclass(frozen=True, slots=True)
class _Placed:
    """One query's list, joined to its judgments.

    Args:
        places: Document id → place from 1, down to the deepest cutoff.
        rows: (J, 2) judged documents as ranx wants them: number and grade, best grade first. The number is the place;
            below 0 where the list does not hold the document.
    """

    places: Mapping[str, int]
    rows: Values

    @classmethod
    def of(cls, docs: Sequence[str], grades: Mapping[str, int], deepest: int) -> _Placed:
        """Return the list of one query. ranx takes the order of the judgments for the ideal one."""
        places = dict(zip(docs[:deepest], range(1, deepest + 1), strict=False))
        rows = [(places.get(doc_id, -number), grade) for number, (doc_id, grade) in enumerate(grades.items(), 1)]
        rows.sort(key=lambda row: -row[1])
        return cls(places, np.array(rows, dtype=np.float64).reshape(-1, 2))


class _Ranx:
    """Lists as ranx takes them, once for all measures."""

    def __init__(self, lists: Sequence[_Placed], deepest: int) -> None:
        self.metrics = require(
            "ranx.metrics", extra="eval"
        )  # not ranx.evaluate: it fails on one measure without the mean
        typed_list = require("numba.typed", extra="eval").List
        # a list's documents are the places themselves, so all lists are the beginning of the same rows
        places = np.arange(1.0, deepest + 1)
        rows = np.column_stack([places, -places])
        self.known: dict[tuple[str, int, int], Values] = {}
        with _quiet_numba():
            self.judged = typed_list([one.rows for one in lists])
            self.ranked = typed_list([rows[: len(one.places)] for one in lists])

    def measure(self, definition: Definition, cutoff: int, min_grade: int) -> Values:
        """Return the values of all lists."""
        asked = (definition.ranx, cutoff, 1 if definition.graded else min_grade)
        if asked not in self.known:  # hitrate and recall are one
            name, _, level = asked
            with _quiet_numba(), _threads(len(self.ranked)):
                values = getattr(self.metrics, name)(self.judged, self.ranked, k=cutoff, rel_lvl=level)
            self.known[asked] = np.asarray(values, dtype=np.float64)
        return self.known[asked]


@contextmanager
def _threads(num_lists: int) -> Iterator[None]:
    """Leave a few lists to one thread: waking the others takes longer than measuring."""
    numba = require("numba", extra="eval")
    before = numba.get_num_threads()
    numba.set_num_threads(1 if num_lists < _FEW else before)
    try:
        yield
    finally:
        numba.set_num_threads(before)


@contextmanager
def _quiet_numba() -> Iterator[None]:
    with warnings.catch_warnings():
        # numba, while it compiles ranx's loops over queries; the loop index is the number of a query
        warnings.filterwarnings("ignore", message=r"(\x1b\[\d+m|\s)*unsafe cast from uint64 to int64")
        yield


def _share(places: Mapping[str, int], among: Collection[str] | None, cutoff: int) -> float:
    """Return the share of the first documents that is among some; of those that came back, as ir_measures counts."""
    if among is None:
        return np.nan
    top = min(cutoff, len(places))
    return sum(places.get(doc_id, top + 1) <= top for doc_id in among) / top if top else 0.0


def _cutoff(text: str, where: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 1 <= int(text) <= MAX_CUTOFF:
        raise InputError(
            f"{where}the cutoff is {text!r}, want an integer from 1 to {MAX_CUTOFF}",
            hint="OpenSearch answers no deeper than that (index.max_result_window)",
        )
    return int(text)


def _did_you_mean(name: str) -> str:
    if name in _AMBIGUOUS:
        return ": do you mean 'hitrate' (the share of the relevant found) or 'success' (1 if any is found)?"
    near = [_ELSEWHERE[name]] if name in _ELSEWHERE else difflib.get_close_matches(name, DEFINITIONS, n=1)
    return f": do you mean {near[0]!r}?" if near else ""


def _known() -> str:
    return "known are " + ", ".join(f"{name}@k" for name in DEFINITIONS)
