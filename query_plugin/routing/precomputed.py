"""Head queries, reasoned about ahead of time: one line of JSON a query, good for one set of models only.

The key is the normalised query and the fingerprint of what made the vector: a file of other models is no harm, its
lines are passed over.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from lrem_os.config import ReasoningSettings
from lrem_os.errors import DatasetError
from lrem_os.model.reasoning import reasoning_of
from lrem_os.text import normalise_query
from lrem_os.types import Reasoning

_DECIDES = {"combine", "weighting", "query_weight"}  # of ReasoningSettings; the sampling is in the reasoner's identity


@dataclass(frozen=True, slots=True)
class Precomputed:
    """What was computed for one query.

    Args:
        vector: As sent to OpenSearch, length D.
        reasonings: The samples; all empty: the reasoner had nothing to say, and the vector is the direct one.
        keywords: Of all samples, the most agreed first.
        reason_ms: What it took, where that was noted: a batch's time divided by its queries.
    """

    vector: tuple[float, ...]
    reasonings: tuple[Reasoning, ...] = ()
    keywords: tuple[str, ...] = ()
    reason_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class PrecomputedFile:
    """The lines of a file that fit the models in use.

    Args:
        queries: By normalised query.
        num_others: Lines made by other models, which are passed over.
    """

    queries: Mapping[str, Precomputed] = field(default_factory=dict)
    num_others: int = 0

    def get(self, text: str) -> Precomputed | None:
        """Return what was computed for a query, however it is spaced."""
        return self.queries.get(normalise_query(text))


def reading_fingerprint(
    embedder: Mapping[str, Any], reasoner: Mapping[str, Any] | None, reasoning: ReasoningSettings
) -> str:
    """Return 16 hex digits that change with whatever changes a reasoned vector or its keywords.

    Args:
        embedder: Identity of what embeds.
        reasoner: Identity of what reasons, its sampling included; ``None``: nothing does.
        reasoning: How keywords and query become one vector.
    """
    decisive = {"embedder": embedder, "reasoner": reasoner, **reasoning.model_dump(mode="json", include=_DECIDES)}
    return hashlib.sha256(orjson.dumps(decisive, option=orjson.OPT_SORT_KEYS, default=str)).hexdigest()[:16]


def read_precomputed(path: str | Path, *, fingerprint: str, dimension: int) -> PrecomputedFile:
    """Return the queries of a file that these models made; of a query that comes twice, the last.

    Raises:
        DatasetError: The file cannot be read, or a line is not what ``lrem-os precompute`` writes. A last line without
            its end, which a kill leaves behind, is passed over.
    """
    queries: dict[str, Precomputed] = {}
    num_others = 0
    for number, row in read_rows(path):
        try:
            if row["fingerprint"] != fingerprint:
                num_others += 1
                continue
            queries[normalise_query(row["query"])] = _parse(row, dimension)
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise DatasetError(
                f"is no line of `lrem-os precompute`: {exc!r}", path=path, line=number, hint="make the file again"
            ) from exc
    return PrecomputedFile(queries, num_others)


def read_rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the whole lines of a JSONL file with their numbers.

    Raises:
        DatasetError: The file cannot be read, or a line is no JSON object.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as exc:
        raise DatasetError(f"cannot be read: {exc.strerror}", path=path) from exc
    for number, line in enumerate(data[: data.rfind(b"\n") + 1].split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as exc:
            raise DatasetError(f"is not JSON: {exc}", path=path, line=number) from exc
        if not isinstance(row, dict):
            raise DatasetError("is no JSON object", path=path, line=number)
        yield number, row


def precomputed_line(
    query: str,
    fingerprint: str,
    vector: Sequence[float],
    reasonings: Sequence[Reasoning],
    keywords: Sequence[str],
    *,
    reason_ms: float = 0.0,
) -> bytes:
    """Return the line that ``read_precomputed`` reads, its end included."""
    row: dict[str, Any] = {
        "query": normalise_query(query),
        "fingerprint": fingerprint,
        "keywords": list(keywords),
        "reasonings": list(reasonings),
        "vector": list(vector),
    }
    if reason_ms:
        row["reason_ms"] = round(reason_ms, 3)
    return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def _parse(row: Mapping[str, Any], dimension: int) -> Precomputed:
    vector = tuple(float(value) for value in row["vector"])
    if len(vector) != dimension:
        raise ValueError(f"the vector has {len(vector)} numbers, not {dimension}")
    if abs(math.fsum(value * value for value in vector) - 1) > 1e-3:
        raise ValueError("the vector is no unit vector")
    reasonings = tuple(map(reasoning_of, row["reasonings"]))
    return Precomputed(vector, reasonings, tuple(map(str, row["keywords"])), float(row.get("reason_ms", 0.0)))
