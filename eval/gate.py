"""Whether a report reaches its thresholds: every limit becomes a check with its number. Pure but for the reading."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lrem_os.errors import ConfigError, GateFailed
from lrem_os.eval.compare import ALPHA
from lrem_os.eval.report_file import load_report, lower_is_better
from lrem_os.eval.thresholds import Threshold, load_thresholds

SCHEMA = "lrem-os/eval-gate/1"

_BOUNDS = ("min", "max")
_LIMITS = (*_BOUNDS, "min_difference", "max_difference", "not_worse")
_PERCENTILES = ("p50", "p95", "p99", "mean")
_PARTS = ("slices", "latency_ms", "latency_ms_by_route", "reasoned_share")


@dataclass(frozen=True, slots=True)
class Check:
    """One limit and the number it was held against.

    Args:
        run: The run.
        what: The measure or cost, with its slice if it is of one: ``ndcg@10 (type negative)``.
        limit: ``min``, ``max``, ``min_difference``, ``max_difference`` or ``not_worse``.
        threshold: The limit's value; for ``not_worse`` the level of significance.
        value: From the report; none where it has no number (which fails). For ``not_worse`` the adjusted p-value.
        passed: Whether it holds.
        note: What else one must know to read the number.
        source: Where the limit is written, ``FILE:LINE``.
    """

    run: str
    what: str
    limit: str
    threshold: float
    value: float | None
    passed: bool
    note: str
    source: str


def check_files(thresholds: str | Path, report: str | Path) -> tuple[Check, ...]:
    """Return the checks of a report file against a file of thresholds.

    Raises:
        ConfigError: The thresholds cannot be read, or name what the report does not hold.
        DatasetError: The report cannot be read.
    """
    limits = load_thresholds(thresholds)
    return check_report(limits, load_report(report))


def check_report(thresholds: Sequence[Threshold], report: Mapping[str, Any]) -> tuple[Check, ...]:
    """Return one check per limit, in the order of the file.

    Raises:
        ConfigError: A limit names a run, measure, slice or cost that the report does not hold, or is no number.
    """
    return tuple(_check(threshold, report) for threshold in thresholds)


def require_passed(checks: Sequence[Check]) -> None:
    """Do nothing if all limits hold.

    Raises:
        GateFailed: Some do not; the message holds every number.
    """
    failed = [check for check in checks if not check.passed]
    if failed:
        lines = "".join(f"\n  {describe(check)}" for check in failed)
        raise GateFailed(f"{len(failed)} of {len(checks)} thresholds do not hold{lines}")


def describe(check: Check) -> str:
    """Return a check as one line.

    >>> describe(Check("direct", "ndcg@10", "min", 0.38, 0.35, False, "", "gate.yaml:3"))
    'direct ndcg@10 = 0.350, min 0.38 (gate.yaml:3)'
    """
    value = "no value" if check.value is None else f"{check.value:.3f}"
    difference = " difference" if check.limit.endswith("_difference") else ""
    name = {"min_difference": "min", "max_difference": "max"}.get(check.limit, check.limit)
    if check.limit == "not_worse":
        return f"{check.run} {check.what} {check.note}, not_worse at {check.threshold:g} ({check.source})"
    note = f", {check.note}" if check.note else ""
    return f"{check.run} {check.what}{difference} = {value}, {name} {check.threshold:g}{note} ({check.source})"


def to_dict(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the checks as a value that JSON can hold."""
    passed = all(check.passed for check in checks)
    return {"schema": SCHEMA, "passed": passed, "checks": [asdict(check) for check in checks]}


def _check(threshold: Threshold, report: Mapping[str, Any]) -> Check:
    keys, runs = threshold.keys, report["runs"]
    if keys[0] != "runs":
        raise _unknown(threshold, "key", keys[0], ["runs"])
    if len(keys) < 2:
        raise ConfigError(f"{threshold.source}: runs is {threshold.value!r}: want the names of runs")
    run = _pick(threshold, "run", keys[1], runs)
    if len(keys) < 3:
        raise ConfigError(f"{threshold.source}: runs.{keys[1]} is {threshold.value!r}: want measures with their limits")
    match keys[2:]:
        case ("slices", by, value, measure, limit):
            values = _pick(threshold, "slice", by, run["slices"])
            part = _pick(threshold, f"{by}", value, values)
            found = _pick(threshold, "measure", measure, part)
            return _bound(threshold, limit, f"{measure} ({by} {value})", found)
        case ("latency_ms", percentile, limit):
            return _bound(threshold, limit, f"latency {percentile}, ms", _latency(threshold, run, percentile))
        case ("latency_ms_by_route", route, percentile, limit):
            of_route = _pick(threshold, "route", route, _cost(threshold, run)["by_route"])
            found = {"mean": _pick(threshold, "percentile", percentile, of_route)}
            return _bound(threshold, limit, f"latency {percentile}, ms (route {route})", found)
        case ("reasoned_share", limit):
            return _bound(threshold, limit, "share reasoned", {"mean": _cost(threshold, run)["reasoned_share"]})
        case (measure, limit) if measure not in _PARTS:
            return _measure(threshold, run, measure, limit, report["card"])
    _pick(threshold, "measure or key", keys[2], [*run["overall"], *_PARTS])
    raise ConfigError(
        f"{threshold.source}: {'.'.join(keys)} is {threshold.value!r}: want a limit",
        hint="write for example  ndcg@10: {min: 0.38}",
    )


def _measure(threshold: Threshold, run: Mapping[str, Any], measure: str, limit: str, card: Mapping[str, Any]) -> Check:
    overall = _pick(threshold, "measure or key", measure, {**run["overall"], **dict.fromkeys(_PARTS)})
    _pick(threshold, "limit", limit, _LIMITS)
    if limit in _BOUNDS:
        return _bound(threshold, limit, measure, overall)
    difference = run["difference"].get(measure)
    if difference is None:
        reason = "is the baseline itself" if card.get("baseline") == threshold.keys[1] else "has no baseline"
        raise ConfigError(
            f"{threshold.source}: {limit} of {threshold.keys[1]} {measure}: in this report the run {reason}",
            hint="evaluate with --baseline RUN",
        )
    baseline = f"baseline {card.get('baseline')}"
    if limit != "not_worse":
        return _bound(threshold, limit, measure, difference, baseline)
    return _not_worse(threshold, measure, difference, run["comparison"].get(measure) or {}, card)


def _not_worse(
    threshold: Threshold,
    measure: str,
    difference: Mapping[str, Any],
    comparison: Mapping[str, Any],
    card: Mapping[str, Any],
) -> Check:
    """Fail where the difference points the wrong way and chance does not explain it."""
    if threshold.value is not True:
        raise ConfigError(f"{threshold.source}: not_worse is {threshold.value!r}: want true, or leave it out")
    mean, p_value = difference["mean"], comparison.get("p_adjusted")
    if mean is None or p_value is None:
        passed, note = False, "has no test"
    else:
        passed = p_value >= ALPHA or not (mean > 0 if lower_is_better(measure) else mean < 0)
        note = f"difference {mean:+.3f} to the baseline {card.get('baseline')}, adjusted p = {p_value:.4f}"
    return Check(threshold.keys[1], measure, "not_worse", ALPHA, p_value, passed, note, threshold.source)


def _bound(threshold: Threshold, limit: str, what: str, found: Any, note: str = "") -> Check:
    """Hold the mean of an estimate against a lower or an upper limit."""
    if not limit.endswith("_difference") or not note:
        _pick(threshold, "limit", limit, _BOUNDS)
    wanted = threshold.value
    if not isinstance(wanted, int | float) or isinstance(wanted, bool) or not math.isfinite(wanted):
        raise ConfigError(f"{threshold.source}: {'.'.join(threshold.keys)} is {wanted!r}: want a number")
    value = found.get("mean") if isinstance(found, Mapping) else None
    passed = value is not None and (value >= wanted if limit.startswith("min") else value <= wanted)
    return Check(threshold.keys[1], what, limit, float(wanted), value, passed, note, threshold.source)


def _latency(threshold: Threshold, run: Mapping[str, Any], percentile: str) -> dict[str, Any]:
    latency = _cost(threshold, run)["latency_ms"]
    return {"mean": _pick(threshold, "percentile", percentile, {name: latency.get(name) for name in _PERCENTILES})}


def _cost(threshold: Threshold, run: Mapping[str, Any]) -> Mapping[str, Any]:
    cost = run.get("cost")
    if not isinstance(cost, Mapping):
        raise ConfigError(
            f"{threshold.source}: the report holds no cost of run {threshold.keys[1]!r}",
            hint="a run file has no latency: evaluate the mode itself",
        )
    return cost


def _pick(threshold: Threshold, what: str, name: str, known: Mapping[str, Any] | Iterable[str]) -> Any:
    """Return what has this name in the report."""
    if name not in (names := list(known)):
        raise _unknown(threshold, what, name, names)
    return known[name] if isinstance(known, Mapping) else name


def _unknown(threshold: Threshold, what: str, name: str, known: Sequence[str]) -> ConfigError:
    near = difflib.get_close_matches(name, known, n=1)
    meant = f": do you mean {near[0]!r}?" if near else ""
    return ConfigError(
        f"{threshold.source}: no {what} is called {name!r}{meant}",
        hint=f"there are {', '.join(known)}" if known else f"the report holds none ({'.'.join(threshold.keys)})",
    )
