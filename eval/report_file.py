"""Reading a report that was written before: ``report.json``, or the folder that holds it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from lrem_os.errors import DatasetError
from lrem_os.eval.measures import DEFINITIONS
from lrem_os.eval.report import SCHEMA

FILE_NAME = "report.json"

_MAPPINGS = ("card", "runs", "queries")
_RUN_MAPPINGS = ("overall", "slices", "difference", "comparison", "per_query")


def load_report(path: str | Path) -> dict[str, Any]:
    """Return a report, see ``lrem_os.eval.report.to_dict`` for what it holds.

    Raises:
        DatasetError: The file cannot be read, or is no report of this version.
    """
    place = Path(path)
    if place.is_dir():
        place /= FILE_NAME
    try:
        report = orjson.loads(place.read_bytes())
    except OSError as exc:
        raise DatasetError(
            f"cannot read it: {exc.strerror or exc}", path=place, hint="lrem-os eval --report DIR writes a report"
        ) from exc
    except orjson.JSONDecodeError as exc:
        raise DatasetError(f"broken JSON: {exc}", path=place) from exc
    _check(report, place)
    checked: dict[str, Any] = report
    return checked


def _check(report: Any, path: Path) -> None:
    schema = report.get("schema") if isinstance(report, Mapping) else None
    if schema != SCHEMA:
        raise DatasetError(
            f"no report: schema is {schema!r}, want {SCHEMA!r}",
            path=path,
            hint="name the report.json that lrem-os eval --report DIR wrote, or evaluate again with this version",
        )
    _check_mappings(report, _MAPPINGS, "", path)
    if not report["runs"]:
        raise DatasetError("the report holds no run", path=path)
    for name, run in report["runs"].items():
        if not isinstance(run, Mapping):
            raise DatasetError(f"runs.{name} is {_kind(run)}: want a mapping", path=path)
        _check_mappings(run, _RUN_MAPPINGS, f"runs.{name}.", path)
        _check_values(run["per_query"], f"runs.{name}.per_query", path)


def _check_mappings(value: Mapping[str, Any], names: tuple[str, ...], where: str, path: Path) -> None:
    for name in names:
        if not isinstance(value.get(name), Mapping):
            raise DatasetError(f"{where}{name} is {_kind(value.get(name))}: want a mapping", path=path)


def _check_values(per_query: Mapping[str, Any], where: str, path: Path) -> None:
    for query_id, values in per_query.items():
        if not isinstance(values, Mapping):
            raise DatasetError(f"{where}.{query_id} is {_kind(values)}: want a mapping", path=path)
        for measure, value in values.items():
            if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
                raise DatasetError(f"{where}.{query_id}.{measure} is {value!r}: want a number", path=path)


def _kind(value: Any) -> str:
    return "missing" if value is None else f"{value!r:.60}"


def lower_is_better(measure: str) -> bool:
    """Return whether a smaller value of a measure is the better one.

    >>> lower_is_better("violation@10"), lower_is_better("ndcg@10")
    (True, False)
    """
    definition = DEFINITIONS.get(measure.partition("@")[0])
    return definition is not None and definition.less_is_better
