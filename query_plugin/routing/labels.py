"""What a gate learns from, one line of JSON a query: what reasoning gained, its direct vector, what the probe found.

Pure. With the signals themselves in the file, another gate can be fitted without asking OpenSearch or a model again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from lrem_os.errors import DatasetError
from lrem_os.query_plugin.routing.features import Landmarks, features_after, features_before
from lrem_os.query_plugin.routing.precomputed import read_rows
from lrem_os.query_plugin.routing.signals import Leg, Signals

_DIGITS = 5  # of vectors and scores in the file: a feature does not move


@dataclass(frozen=True, slots=True)
class Label:
    """What is known of a query.

    Args:
        query_id: Its id.
        query: As typed.
        type: Its kind; empty when unknown.
        gain: Measure with reasoning minus measure without.
        vector: Direct unit vector, shape (D,).
        signals: What the probe found.
        direct: Measure without reasoning; NaN where only the gain is known.
    """

    query_id: str
    query: str
    type: str
    gain: float
    vector: NDArray[np.float32]
    signals: Signals
    direct: float = float("nan")

    def line(self) -> bytes:
        """Return it as a line of JSON, its end included."""
        legs = {"bm25": self.signals.bm25, "vector": self.signals.vector}
        row = {
            "query_id": self.query_id,
            "query": self.query,
            "type": self.type,
            "gain": self.gain,
            "direct": None if np.isnan(self.direct) else self.direct,
            "signals": {
                name: {"ids": leg.ids, "scores": [round(score, _DIGITS) for score in leg.scores]}
                for name, leg in legs.items()
            },
            "vector": [round(value, _DIGITS) for value in self.vector.tolist()],
        }
        return orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE)


def label_features(label: Label, landmarks: Landmarks) -> dict[str, float]:
    """Return all features of a query, as the router computes them."""
    return features_before(label.query, label.vector, landmarks) | features_after(label.query, label.signals)


def read_labels(path: str | Path) -> list[Label]:
    """Return the labels of a file, without a last line that a kill has cut.

    Raises:
        DatasetError: The file cannot be read, or a line is not one of ``Label.line``.
    """
    labels = []
    for number, row in read_rows(path):
        try:
            labels.append(_parse(row))
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise DatasetError(f"is no label: {exc!r}", path=path, line=number, hint="make the file again") from exc
    return labels


def _parse(row: Mapping[str, Any]) -> Label:
    vector = np.array(row["vector"], np.float32)
    gain = float(row["gain"])
    if vector.ndim != 1 or not np.isfinite(vector).all() or not np.isfinite(gain):
        raise ValueError("the vector or the gain is no number")
    bm25, knn = (_leg(row["signals"][name]) for name in ("bm25", "vector"))
    direct = row.get("direct")
    return Label(
        query_id=str(row["query_id"]),
        query=str(row["query"]),
        type=str(row["type"]),
        gain=gain,
        vector=vector,
        signals=Signals(bm25, knn),
        direct=float("nan") if direct is None else float(direct),
    )


def _leg(row: Mapping[str, Any]) -> Leg:
    leg = Leg(tuple(map(str, row["ids"])), tuple(map(float, row["scores"])))
    if len(leg.ids) != len(leg.scores):
        raise ValueError(f"a leg has {len(leg.ids)} ids and {len(leg.scores)} scores")
    return leg
