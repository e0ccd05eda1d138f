"""Aggregations as a visualisation holds them: metrics and buckets. Pure.

Each is numbered by its place, from 1; a bucket that sorts by a metric names its number.

Source: OpenSearch Dashboards 2.19 and 3.x, ``data/common/search/aggs``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Agg:
    """One aggregation.

    Args:
        kind: Its type.
        schema: The place in the visualisation: ``metric``, ``segment``, ``group``, ``bucket``.
        params: As Dashboards keeps them.
    """

    kind: str
    schema: str
    params: Mapping[str, Any]

    def to_dict(self, number: int) -> dict[str, Any]:
        """Return it as ``visState`` holds it."""
        return {
            "id": str(number),
            "enabled": True,
            "type": self.kind,
            "schema": self.schema,
            "params": dict(self.params),
        }


def count(label: str = "") -> Agg:
    """Count documents."""
    return _metric("count", label)


def avg(field: str, label: str) -> Agg:
    """Mean of a field; of one that holds 0 and 1, a share."""
    return _metric("avg", label, field=field)


def total(field: str, label: str) -> Agg:
    """Sum of a field."""
    return _metric("sum", label, field=field)


def highest(field: str, label: str) -> Agg:
    """Maximum of a field."""
    return _metric("max", label, field=field)


def percentiles(field: str, label: str, percents: Sequence[float]) -> Agg:
    """Percentiles of a field."""
    return _metric("percentiles", label, field=field, percents=list(percents))


def latest(field: str, label: str, *, by: str) -> Agg:
    """Value of a field in the one document that has most of another; what lacks the other comes last."""
    return _metric("top_hits", label, field=field, aggregate="concat", size=1, sortField=by, sortOrder="desc")


def over_time(field: str, *, schema: str = "segment") -> Agg:
    """A bucket an interval, whose length follows the time picker."""
    params = {
        "field": field,
        "useNormalizedOpenSearchInterval": True,
        "scaleMetricValues": False,
        "interval": "auto",
        "drop_partials": False,
        "min_doc_count": 1,
        "extended_bounds": {},
    }
    return Agg("date_histogram", schema, params)


def terms(
    field: str, label: str, *, schema: str = "segment", size: int = 10, by: str = "1", ascending: bool = False
) -> Agg:
    """A bucket a value.

    Args:
        field: Whose values.
        label: Of the column or axis.
        schema: See ``Agg``.
        size: Values at most.
        by: Number of the metric that sorts them, ``_key``, or ``1.95`` for a percentile of the first.
        ascending: The least first.
    """
    params = {
        "field": field,
        "orderBy": by,
        "order": "asc" if ascending else "desc",
        "size": size,
        "otherBucket": False,
        "otherBucketLabel": "Other",
        "missingBucket": False,
        "missingBucketLabel": "Missing",
        "customLabel": label,
    }
    return Agg("terms", schema, params)


def _metric(kind: str, label: str, **params: Any) -> Agg:
    return Agg(kind, "metric", {**params, "customLabel": label} if label else params)
