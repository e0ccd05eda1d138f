"""What changed between two reports: run by run, measure by measure, paired over the queries that both have. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from lrem_os.errors import InputError
from lrem_os.eval.intervals import Estimate, bootstrap
from lrem_os.eval.report_file import lower_is_better

SCHEMA = "lrem-os/eval-changes/1"

Verdict = Literal["better", "worse", "open"]

_CARD = ("version", "commit", "config_hash", "baseline", "system")
_SAME_TO = 1e-12  # two values closer than this are one value, written by two machines


@dataclass(frozen=True, slots=True)
class Change:
    """One measure of one run, before and after.

    Args:
        run: Its name in both reports.
        measure: Like ``ndcg@10``.
        before: Mean over the queries that both reports have a value for.
        after: Likewise.
        difference: After minus before, paired, with its interval.
        wins: Queries on which the value became better.
        losses: Queries on which it became worse.
        verdict: ``better`` or ``worse`` where the whole interval lies on one side of 0; a single query proves nothing.
    """

    run: str
    measure: str
    before: float
    after: float
    difference: Estimate
    wins: int
    losses: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Fact:
    """Something the two run cards do not agree on."""

    what: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Changes:
    """Two reports beside each other.

    Args:
        same_data: Whether both measured the same queries on the same judgments.
        data: Why not.
        facts: What else the run cards do not agree on: version, configuration, index.
        changes: Runs in the order of the first report, measures as in it.
        only_before: Runs, or ``run measure``, that only the first report has.
        only_after: Likewise, the second.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.
    """

    same_data: bool
    data: tuple[Fact, ...]
    facts: tuple[Fact, ...]
    changes: tuple[Change, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    resamples: int
    seed: int


def compare_reports(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """Return what changed from one report to another.

    Means are over the queries that both have, so they may differ from the ones in the reports; where the data is not
    the same, ``data`` says so. Intervals are drawn as the first report's were.

    Raises:
        InputError: No run has the same name in both, or none has a measure and a query in common.
    """
    interval = before["card"].get("interval") or {}
    resamples, seed = int(interval.get("resamples") or 1000), int(interval.get("seed") or 0)
    common = [name for name in before["runs"] if name in after["runs"]]
    if not common:
        raise InputError(
            f"no run is in both reports: the first has {', '.join(before['runs'])}, the second "
            f"{', '.join(after['runs'])}",
            hint="evaluate under the same names: name=runs/file.trec gives a run file another one",
        )
    changes = tuple(
        change
        for name in common
        for change in _run_changes(name, before["runs"][name], after["runs"][name], resamples, seed)
    )
    if not changes:
        raise InputError(f"{', '.join(common)}: the two reports have no measure of a query in common")
    data = tuple(_data_facts(before, after))
    return Changes(
        same_data=not data,
        data=data,
        facts=tuple(_card_facts(before["card"], after["card"])),
        changes=changes,
        only_before=tuple(_only(before["runs"], after["runs"])),
        only_after=tuple(_only(after["runs"], before["runs"])),
        resamples=resamples,
        seed=seed,
    )


def to_dict(changes: Changes) -> dict[str, Any]:
    """Return the comparison as a value that JSON can hold."""
    return {"schema": SCHEMA, **asdict(changes)}


def _run_changes(
    name: str, before: Mapping[str, Any], after: Mapping[str, Any], resamples: int, seed: int
) -> Iterator[Change]:
    old, new = before["per_query"], after["per_query"]
    for measure in before["overall"]:
        pairs = [
            (old[query_id][measure], new[query_id][measure])
            for query_id in old
            if query_id in new and old[query_id].get(measure) is not None and new[query_id].get(measure) is not None
        ]
        if not pairs:
            continue
        values = np.array(pairs, dtype=np.float64)
        differences = values[:, 1] - values[:, 0]
        differences[np.abs(differences) < _SAME_TO] = 0.0
        difference = bootstrap(differences, resamples=resamples, seed=seed)
        better = -differences if lower_is_better(measure) else differences
        means = values.mean(axis=0)
        yield Change(
            run=name,
            measure=measure,
            before=float(means[0]),
            after=float(means[1]),
            difference=difference,
            wins=int((better > 0).sum()),
            losses=int((better < 0).sum()),
            verdict=_verdict(difference, lower_is_better(measure)),
        )


def _verdict(difference: Estimate, lower: bool) -> Verdict:
    if difference.num_queries < 2 or difference.low <= 0 <= difference.high:
        return "open"
    return "worse" if (difference.mean > 0) == lower else "better"


def _data_facts(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Fact]:
    old, new = _checksums(before), _checksums(after)
    for what in sorted(old.keys() | new.keys()):
        if old.get(what) != new.get(what):
            yield Fact(f"checksum of {what}", old.get(what), new.get(what))
    if not (old and new):
        yield Fact("checksums recorded", len(old), len(new))
    if before["card"].get("min_grade") != after["card"].get("min_grade"):
        yield Fact("min_grade", before["card"].get("min_grade"), after["card"].get("min_grade"))
    ids, other = _query_ids(before), _query_ids(after)
    if ids != other:
        yield Fact("queries that the other report lacks", len(ids - other), len(other - ids))
    changed = sum(1 for query_id in ids & other if before["queries"].get(query_id) != after["queries"].get(query_id))
    if changed:
        yield Fact("queries with another text, type or frequency under the same id", None, changed)


def _card_facts(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Fact]:
    for what in _CARD:
        if before.get(what) != after.get(what):
            yield Fact(what, before.get(what), after.get(what))


def _checksums(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the checksums of what both must share; the runs are what is compared, and may differ."""
    checksums = report["card"].get("checksums") or {}
    return {what: value for what, value in checksums.items() if not what.startswith("run ")}


def _query_ids(report: Mapping[str, Any]) -> set[str]:
    return {query_id for run in report["runs"].values() for query_id in run["per_query"]}


def _only(runs: Mapping[str, Any], others: Mapping[str, Any]) -> Iterator[str]:
    for name, run in runs.items():
        if name not in others:
            yield name
        else:
            yield from (f"{name} {measure}" for measure in run["overall"] if measure not in others[name]["overall"])
