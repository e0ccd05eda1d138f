"""Training pairs from clicks, by a simple rule that takes the position out.

People click what stands on top. So a product is not asked how often it was clicked, but whether it was clicked more
often than what stands at the same positions usually is: clicks over expected clicks, COEC = clicks / Σ CTR(position)
over its impressions, where CTR(position) is the mean over all queries (Zhang and Jones 2007; also the click model of
OpenSearch's Search Relevance Workbench). Nothing becomes a positive that was not clicked, and nothing a negative.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import orjson

from lrem_os.errors import ConfigError, DatasetError
from lrem_os.train.construct.click_log import ClickLog
from lrem_os.train.construct.run import Files

SOURCE = "Made from clicks over expected clicks (Zhang and Jones 2007)."
"""For the data card."""

STEPS = {
    "read": "lines read",
    "unusable": "lines that could not be used",
    "other_events": "events that are neither impression, click nor conversion",
    "searches": "searches",
    "impressions": "impressions given as such",
    "clicks": "clicks",
    "conversions": "conversions",
    "orphan_clicks": "products clicked in a search without a text",
    "pairs": "pairs of query and product",
    "few_impressions": "pairs dropped: too few impressions",
    "few_clicks": "pairs dropped: too few clicks",
    "as_expected": "pairs dropped: clicked less than their positions explain",
    "no_position": "pairs kept without a known position",
    "positives": "pairs kept",
    "written": "queries written",
}
"""What is counted, in order."""

_PAIRS = """
WITH rates AS (
    SELECT position, TOTAL(clicked) / TOTAL(shown) AS rate FROM sums WHERE position IS NOT NULL GROUP BY position
)
SELECT key, item, SUM(shown), SUM(clicked), SUM(converted),
    TOTAL(CASE WHEN position IS NOT NULL THEN clicked END), TOTAL(shown * rate)
FROM sums LEFT JOIN rates USING (position) GROUP BY key, item ORDER BY key, item
"""


@dataclass(frozen=True, slots=True)
class ClickRule:
    """When a click makes a positive.

    Args:
        min_clicks: Searches in which the product was clicked.
        min_impressions: Searches in which it was shown.
        min_coec: Clicks over expected clicks; 0 lets the position in again.
    """

    min_clicks: int = 2
    min_impressions: int = 5
    min_coec: float = 1.0

    def __post_init__(self) -> None:
        if self.min_clicks < 1 or self.min_impressions < 1 or not self.min_coec >= 0:
            raise ConfigError(f"{self}: a positive needs at least one click and one impression")

    def verdict(self, shown: int, clicked: int, clicked_at: float, expected: float) -> str:
        """Return ``positive``, or under which count a pair is dropped.

        Args:
            shown: Impressions.
            clicked: Clicks.
            clicked_at: Clicks at known positions.
            expected: Clicks that those positions explain; 0 where none is known.
        """
        if clicked < self.min_clicks:
            return "few_clicks"
        if shown < self.min_impressions:
            return "few_impressions"
        if expected > 0 and clicked_at < self.min_coec * expected * (1 - 1e-9):  # sums of floats
            return "as_expected"
        return "positive"


def training_rows(log: ClickLog, rule: ClickRule) -> Iterator[dict[str, Any]]:
    """Yield a line per query that has positives: grade 2 where the product was converted too, else 1.

    Args:
        log: Loaded and summed up; its counts are added to.
        rule: What makes a positive.
    """
    counts: Counter[str] = log.counts
    texts = log.database.cursor()
    for key, pairs in groupby(log.database.execute(_PAIRS), key=lambda row: row[0]):
        positives = {}
        for _, item, shown, clicked, converted, clicked_at, expected in pairs:
            counts["pairs"] += 1
            verdict = rule.verdict(shown, clicked, clicked_at, expected)
            if verdict == "positive":
                positives[item] = 2 if converted else 1
                counts["no_position"] += expected == 0
            else:
                counts[verdict] += 1
        if positives:
            counts["positives"] += len(positives)
            counts["written"] += 1
            [text] = texts.execute("SELECT text FROM queries WHERE key = ?", (key,)).fetchone()
            query_id = f"click-{hashlib.sha256(key.encode()).hexdigest()[:16]}"  # the same in every run
            yield {"qid": query_id, "query": text, "positives": positives}


def write_pairs(log: ClickLog, rule: ClickRule, files: Files, *, restart: bool = False) -> dict[str, int]:
    """Write the training file, whole or not at all; return the counts.

    There is no journal: the work takes minutes, and a run that was killed is simply started again.

    Raises:
        DatasetError: The output is there already, or cannot be written.
    """
    if files.out.exists() and not restart:
        raise DatasetError("is there already", path=files.out, hint="--restart, or another --out")
    part = files.out.with_suffix(".part")
    try:
        files.out.parent.mkdir(parents=True, exist_ok=True)
        with files.failed.open("wb") as failed:
            for name, line in log.unusable:
                row = {"file": name, "line": line.line, "error": line.reason, "text": line.text}
                failed.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
        with part.open("wb") as out:
            for row in training_rows(log, rule):
                out.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
            out.flush()
            os.fsync(out.fileno())
        part.replace(files.out)
    except OSError as exc:
        raise DatasetError(f"cannot be written: {exc.strerror or exc}", path=files.out) from exc
    return dict(log.counts)


def count_pairs(log: ClickLog, rule: ClickRule) -> dict[str, int]:
    """Return the counts of what would be written."""
    for _ in training_rows(log, rule):
        pass
    return dict(log.counts)
