"""Catalog rows for tests, and what a test asks of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lrem_os.ingest.report import IngestReport


def row(doc_id: object, title: object = "Bag", **fields: Any) -> dict[str, Any]:
    return {"id": doc_id, "title": title, **fields}


def many(count: int, title: str = "title") -> list[dict[str, Any]]:
    return [row(f"p{number}", f"{title} {number}", price=number + 0.5) for number in range(count)]


def by_id(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {str(entry["id"]): entry for entry in rows}


def counts(report: IngestReport) -> tuple[int, int, int, int]:
    return report.indexed, report.unchanged, report.superseded, report.failed
