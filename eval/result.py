"""What an evaluation results in: values only, made by ``evaluate_runs``, read by every report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from lrem_os.eval.intervals import Estimate
from lrem_os.types import Query, Trace

Estimates = Mapping[str, Estimate]
"""Measure (``ndcg@10``) → its mean and interval."""


class QueryValues(Mapping[str, Mapping[str, float]]):
    """Query id → measure → value, over one array: a hundred thousand queries as dicts would take a hundred times that.

    Args:
        query_ids: One a row.
        measures: One a column.
        values: (queries, measures); NaN where a measure does not apply: it is left out.
    """

    def __init__(self, query_ids: Sequence[str], measures: Sequence[str], values: npt.NDArray[np.float64]) -> None:
        self._rows = {query_id: row for row, query_id in enumerate(query_ids)}
        self._measures = tuple(measures)
        self._values = values

    def __getitem__(self, query_id: str) -> dict[str, float]:
        row = self._values[self._rows[query_id]].tolist()
        return {name: value for name, value in zip(self._measures, row, strict=True) if not math.isnan(value)}

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def renamed(self, rename: Callable[[str], str]) -> QueryValues:
        """Return the same values under other query ids."""
        return QueryValues([rename(query_id) for query_id in self._rows], self._measures, self._values)

    def __repr__(self) -> str:
        return f"QueryValues({dict(self)!r})"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of a run against the baseline, over the queries that both have a value for.

    Args:
        p_value: Two-sided, of the paired test that the card names.
        p_adjusted: After Holm's correction over all runs and measures of the report, equal comparisons as one,
            ``judged@k`` apart.
        effect_size: Mean of the paired differences over their standard deviation; NaN where they do not vary.
        wins: Queries on which the run is better; for a measure where less is better, those with less.
        ties: Queries on which both have the same value.
        losses: Queries on which the baseline is better.
        minimum_detectable: Smallest difference that this many queries would show in 80 % of such comparisons; NaN
            with fewer than two queries, or where the differences do not vary.
        underpowered: Nothing was shown, and a difference that matters could have been missed.
    """

    p_value: float
    p_adjusted: float
    effect_size: float
    wins: int
    ties: int
    losses: int
    minimum_detectable: float
    underpowered: bool


@dataclass(frozen=True, slots=True)
class Mover:
    """A query whose value changed much: its value in the run, in the baseline, and the first less the second."""

    query_id: str
    value: float
    baseline: float
    difference: float


@dataclass(frozen=True, slots=True)
class RunResult:
    """What one run scores.

    Args:
        overall: Over all queries that count.
        per_query: Query id → measure → value; a measure that does not apply to a query is not there.
        missing: Queries it has no results for; they count 0.
        num_extra: Queries it answers that are not in the query file.
        depth: Results that it holds for a query, at most.
        weighted: Over the same queries, each weighing its frequency; empty where all frequencies are equal.
        slices: Dimension (``type``, ``route``, ``length``, ``frequency``) → part → its estimates.
        difference: Paired difference to the baseline; empty without one, and for the baseline itself.
        comparison: Measure → test against the baseline; empty where ``difference`` is.
        movers: Measure → the queries that moved most, those that gained first; empty where ``difference`` is.
        cost: What it took; none where nothing was timed.
        traces: Query id → how it was served.
    """

    overall: Estimates
    per_query: Mapping[str, Mapping[str, float]]
    missing: tuple[str, ...]
    num_extra: int
    depth: int = 0
    weighted: Estimates = field(default_factory=dict)
    slices: Mapping[str, Mapping[str, Estimates]] = field(default_factory=dict)
    difference: Estimates = field(default_factory=dict)
    comparison: Mapping[str, Comparison] = field(default_factory=dict)
    movers: Mapping[str, tuple[Mover, ...]] = field(default_factory=dict)
    cost: Mapping[str, Any] | None = None
    traces: Mapping[str, Trace] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunCard:
    """What must be known to repeat an evaluation.

    Args:
        num_queries: In the query file.
        num_evaluated: Of those, with a relevant judgment: the ones that count.
        unjudged: Queries without any judgment.
        without_relevant: Queries whose judgments are all below ``min_grade``.
        num_extra_judged: Judged queries that are not in the query file.
        measures: Computed, in the order asked for.
        min_grade: From which grade on a product is relevant; nDCG takes the grades as they are.
        resamples: Of the bootstrap.
        seed: Of bootstrap and randomisation test.
        baseline: Run that the others are compared with.
        less_is_better: Of the measures, those where the smaller value is the better one.
        test: ``randomisation`` or ``t``.
        permutations: Of the randomisation test.
        relevant_difference: The difference that would matter; a comparison that could miss it is underpowered.
        date: UTC, as ISO 8601.
        version: Of lrem-os.
        commit: Of the checkout the evaluation belongs to, as handed in.
        config_hash: Of the settings, as handed in.
        checksums: What was read → SHA-256.
        system: What answered, as handed in: model fingerprint, index.
        notes: Sentences about what was read or asked, as handed in.
    """

    num_queries: int
    num_evaluated: int
    unjudged: tuple[str, ...]
    without_relevant: tuple[str, ...]
    num_extra_judged: int
    measures: tuple[str, ...]
    min_grade: int
    resamples: int
    seed: int
    baseline: str | None = None
    less_is_better: tuple[str, ...] = ()
    test: str = "randomisation"
    permutations: int = 0
    relevant_difference: float = math.nan
    date: str = ""
    version: str = ""
    commit: str = ""
    config_hash: str = ""
    checksums: Mapping[str, str] = field(default_factory=dict)
    system: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class EvalResult:
    """The outcome of an evaluation.

    Args:
        runs: In the order asked for.
        card: What must be known to repeat it.
        queries: Those of the query file, in its order; a text that is empty was removed on purpose.
        curve: Cost against quality of routing, where it was worked out.
        robustness: What perturbed queries and injected products did, where it was tried.
    """

    runs: Mapping[str, RunResult]
    card: RunCard
    queries: tuple[Query, ...] = ()
    curve: Mapping[str, Any] | None = None
    robustness: Mapping[str, Any] | None = None
