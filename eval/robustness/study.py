"""The study itself: every run answers the queries as they are and as each family and seed has them; what does it lose?

One retriever at a time: a run is asked everything before the next is opened.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from lrem_os.errors import RunError
from lrem_os.eval.answers import Answers, open_answers
from lrem_os.eval.datasets import Qrels
from lrem_os.eval.measures import Measure, measure_queries
from lrem_os.eval.robustness.drop import Drop, Values, changed_routes, drop_rates
from lrem_os.eval.robustness.perturb import SEEDS, Way, perturb_queries
from lrem_os.eval.runs import collect_run
from lrem_os.types import Query, Ranking, Retriever

Run = dict[str, Ranking]
WaysFor = Callable[[Sequence[Query], int], Mapping[str, Way]]
"""The ways of a family, given the queries and the seed."""
Progress = Callable[[str, int, int], None]

_NUM_WORST = 5


@dataclass(frozen=True, slots=True)
class Plan:
    """What is tried.

    Args:
        families: Name → its ways.
        measure: Whose loss is reported.
        seeds: Of the perturbations.
        min_grade: From which grade on a product is relevant.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """

    families: Mapping[str, WaysFor]
    measure: Measure
    seeds: tuple[int, ...] = SEEDS
    min_grade: int = 1
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Family:
    """What one family did.

    Args:
        runs: Name → what it lost.
        changed: Share of queries that the family could do something with, mean over seeds.
        ways: How often each way was drawn.
        routes: Run → queries that took another route, and queries whose routes are known, over all seeds.
        worst: Run → the queries that lost most, with the text that was asked.
    """

    runs: dict[str, Drop] = field(default_factory=dict)
    changed: float = math.nan
    ways: dict[str, int] = field(default_factory=dict)
    routes: dict[str, tuple[int, int]] = field(default_factory=dict)
    worst: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Study:
    """The outcome: per family what it did, and the runs on the queries as they are."""

    plan: Plan
    families: dict[str, Family]
    clean: dict[str, Run]


def run_study(
    names: Sequence[str],
    queries: Sequence[Query],
    qrels: Qrels,
    plan: Plan,
    *,
    open_retriever: Callable[[str], Retriever],
    kept: Kept,
    on_progress: Progress | None = None,
) -> Study:
    """Return what the runs lose.

    Args:
        names: Of the runs.
        queries: With a relevant judgment, at least one; ids are unique.
        qrels: Their judgments.
        plan: Families, seeds, measure.
        open_retriever: Called once per run that has something left to answer.
        kept: Where answers are kept.
        on_progress: Told run, queries answered, queries in all.

    Raises:
        RunError: A retriever breaks its contract, or answers cannot be kept.
        SearchError: OpenSearch failed.
    """
    variants = {
        (family, seed): perturb_queries(queries, ways_for(queries, seed), family=family, seed=seed)
        for family, ways_for in plan.families.items()
        for seed in plan.seeds
    }
    families = {family: _described(family, variants, len(queries)) for family in plan.families}
    clean: dict[str, Run] = {}
    for name in names:
        total = len(queries) * (1 + len(variants))
        asker = Asker(name, open_retriever, kept, top_k=plan.measure.cutoff, total=total, on_progress=on_progress)
        clean[name] = asker.ask("clean", queries)
        before = _values(clean[name], queries, qrels, plan)
        for family, found in families.items():
            runs = [asker.ask(f"{family}-{seed}", variants[family, seed][0]) for seed in plan.seeds]
            after = np.stack([_values(run, queries, qrels, plan) for run in runs])
            found.runs[name] = drop_rates(before, after, resamples=plan.resamples, seed=plan.seed)
            counts = [changed_routes(clean[name], run) for run in runs]
            found.routes[name] = (sum(changed for changed, _ in counts), sum(known for _, known in counts))
            asked = [variants[family, seed][0] for seed in plan.seeds]
            found.worst[name] = _worst(queries, asked, plan.seeds, before, after)
    return Study(plan, families, clean)


@dataclass(frozen=True, slots=True)
class Kept:
    """Where answers are kept, so that a study that is cut off goes on.

    Args:
        folder: Made when the first answer is kept; none: nothing is kept.
        key: What the answers of a run depend on: configuration, index, models. Under another key they are asked again.
        fresh: Ask again whatever is there.
    """

    folder: Path | None = None
    key: Callable[[str], Mapping[str, Any]] = lambda _name: {}
    fresh: bool = False

    def open(self, name: str, variant: str, top_k: int) -> Answers | None:
        """Return the answers of a run to one variant of the queries. Raises ``RunError``, ``DatasetError``."""
        if self.folder is None:
            return None
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise RunError(
                f"cannot make the folder {self.folder}: {exc.strerror or exc}", hint="choose --work"
            ) from exc
        key = {**self.key(name), "variant": variant, "top_k": top_k}
        return open_answers(self.folder / f"{name}.{variant}.jsonl", name, key, fresh=self.fresh)


class Asker:
    """Asks one run, which is opened when the first answer is not there yet; counts what is done.

    Args:
        name: Of the run.
        open_retriever: Gives it.
        kept: Where its answers are kept.
        top_k: Depth.
        total: Queries in all, for the progress.
        on_progress: Told run, queries answered, queries in all.
    """

    def __init__(
        self,
        name: str,
        open_retriever: Callable[[str], Retriever],
        kept: Kept,
        *,
        top_k: int,
        total: int,
        on_progress: Progress | None,
    ) -> None:
        self._name, self._kept, self._top_k, self._total = name, kept, top_k, total
        self._open = cache(lambda: open_retriever(name))
        self._on_progress = on_progress or (lambda _name, _done, _total: None)
        self._done = 0

    def ask(self, variant: str, queries: Sequence[Query]) -> Run:
        """Return the answers to one variant of the queries. Raises what ``collect_run`` raises."""
        before = self._done
        run = collect_run(
            self._open,
            queries,
            top_k=self._top_k,
            name=self._name,
            answers=self._kept.open(self._name, variant, self._top_k),
            on_progress=lambda name, done, _: self._on_progress(name, before + done, self._total),
        )
        self._done += len(queries)
        return run


def _described(
    family: str, variants: Mapping[tuple[str, int], tuple[list[Query], dict[str, str]]], num_queries: int
) -> Family:
    changes = [changed for (name, _), (_, changed) in variants.items() if name == family]
    ways = Counter(way for changed in changes for way in changed.values())
    share = sum(map(len, changes)) / (len(changes) * num_queries)
    return Family(changed=share, ways=dict(sorted(ways.items())))


def _values(run: Run, queries: Sequence[Query], qrels: Qrels, plan: Plan) -> Values:
    ranked = [[hit.doc_id for hit in run[query.query_id].hits] for query in queries]
    judged = [qrels[query.query_id] for query in queries]
    return measure_queries([plan.measure], ranked, judged, min_grade=plan.min_grade)[plan.measure]


def _worst(
    queries: Sequence[Query], asked: Sequence[Sequence[Query]], seeds: Sequence[int], clean: Values, after: Values
) -> list[dict[str, Any]]:
    """Return the greatest losses, one a query: what was asked, and what it cost."""
    losses = clean - after  # (S, Q)
    worst_seed = losses.argmax(axis=0)
    order = sorted(range(len(queries)), key=lambda place: (-losses[worst_seed[place], place], queries[place].query_id))
    return [
        {
            "query_id": queries[place].query_id,
            "seed": seeds[row],
            "query": queries[place].text,
            "asked": asked[row][place].text,
            "clean": float(clean[place]),
            "perturbed": float(after[row, place]),
        }
        for place in order[:_NUM_WORST]
        if losses[row := int(worst_seed[place]), place] > 0
    ]


def study_dict(study: Study, *, redact: bool = False) -> dict[str, Any]:
    """Return the study as the ``robustness`` of a report; ``redact`` leaves the queries that lost most out.

    ``route_changes`` holds one number a family: over the runs that have more than one route, the share of queries that
    took another one. ``routes`` has it per run.
    """
    routed = _routed(study)
    return {
        "measure": str(study.plan.measure),
        "seeds": list(study.plan.seeds),
        "num_queries": len(next(iter(study.clean.values()), {})),
        "families": {
            name: {run: _drop_dict(drop) for run, drop in family.runs.items()}
            for name, family in study.families.items()
        },
        "changed": {name: family.changed for name, family in study.families.items()},
        "ways": {name: family.ways for name, family in study.families.items()},
        "route_changes": _route_changes(study, routed),
        "routes": {
            name: {run: family.routes[run][0] / family.routes[run][1] for run in routed if family.routes[run][1]}
            for name, family in study.families.items()
        },
        "worst": {} if redact else {name: family.worst for name, family in study.families.items()},
    }


def _routed(study: Study) -> list[str]:
    """Return the runs with more than one route: only these can change their mind."""
    return [
        name
        for name, run in study.clean.items()
        if len({ranking.trace.route for ranking in run.values() if ranking.trace is not None}) > 1
        or any(family.routes[name][0] for family in study.families.values())
    ]


def _route_changes(study: Study, routed: Sequence[str]) -> dict[str, float]:
    found = {}
    for name, family in study.families.items():
        changed, known = (sum(family.routes[run][place] for run in routed) for place in (0, 1))
        if known:
            found[name] = changed / known
    return found


def _drop_dict(drop: Drop) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in asdict(drop).items()}
