"""Logs of what was shown and clicked, summed up per query, document and position.

The sums, and the searches that are still being put together, lie in a private SQLite file beyond a small cache, so a
log of any length fits.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lrem_os.errors import DatasetError
from lrem_os.eval.datasets import Columns, DataFile, json_rows, text_id
from lrem_os.eval.judgments.clicks import ClickCounts
from lrem_os.eval.tables import Row, has_header, read_table, value_of

_TABLES = """
PRAGMA journal_mode = OFF;
CREATE TABLE texts (qid TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID;
CREATE TABLE searches (search TEXT PRIMARY KEY, qid TEXT) WITHOUT ROWID;
CREATE TABLE seen (search TEXT, doc TEXT, position INTEGER, shown INTEGER, clicked INTEGER, PRIMARY KEY (search, doc))
    WITHOUT ROWID;
CREATE TABLE hits (search TEXT, doc TEXT, position INTEGER, PRIMARY KEY (search, doc)) WITHOUT ROWID;
CREATE TABLE sums (qid TEXT, doc TEXT, position INTEGER, shown REAL, clicked REAL, PRIMARY KEY (qid, doc, position))
    WITHOUT ROWID;
"""
_SEEN = """
INSERT INTO seen VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET position = COALESCE(position, excluded.position),
shown = MAX(shown, excluded.shown), clicked = MAX(clicked, excluded.clicked)
"""
_SUM = "INSERT INTO sums VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET shown = shown + excluded.shown, "
_SUM += "clicked = clicked + excluded.clicked"

CLICK = ("click",)
IMPRESSION = "impression"
QUERY_FIELDS = ["query_id", "user_query", "query_response_hit_ids"]
EVENT_FIELDS = ["query_id", "user_query", "action_name", "event_attributes"]
_COUNTS = (
    *("rows", "impressions", "clicks", "no_position", "other_events", "orphans"),
    *("impression_events", "click_events", "hits_shown"),
)
_YES = {"1": 1, "true": 1, "yes": 1, "0": 0, "false": 0, "no": 0, "": 0}


class ClickLog:
    """Sums up a log. Close it in the end: its file is deleted then.

    One search is one impression of a document, and at most one click on it. A click implies the impression. Where UBI's
    events hold no impression at all, what a search returned (``query_response_hit_ids``) counts as shown.

    Args:
        click_actions: Names of the UBI events that are clicks.

    Attributes:
        counts: What was read: rows, clicks, rows without a position, events of other kinds, orphans.
    """

    def __init__(self, click_actions: Sequence[str] = CLICK) -> None:
        self.counts = dict.fromkeys(_COUNTS, 0)
        self._clicks = frozenset(click_actions)
        self._database = sqlite3.connect("")
        self._database.executescript(_TABLES)

    def __enter__(self) -> ClickLog:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def add_file(self, file: DataFile, columns: Columns | None = None) -> None:
        """Read a log: JSONL or CSV of ``query``, ``doc_id``, ``position`` with ``clicked`` or with both sums
        ``impressions`` and ``clicks``; or an export of ``ubi_events`` (and ``ubi_queries``, for the texts).

        Raises:
            DatasetError: A row cannot be used; names file, line and value.
        """
        for row in _rows(file, columns):
            if "action_name" in row.values:
                self._add_event(row.values, file.path, row.line)
            elif {"query_id", "user_query"} <= row.values.keys() and value_of(row, "doc_id", columns) is None:
                self.add_searches([row.values])
            else:
                self._add_row(row, file.path, columns)

    def add_events(self, pages: Iterable[Sequence[Mapping[str, Any]]], source: str) -> None:
        """Read the documents of ``ubi_events``."""
        for page in pages:
            for values in page:
                self._add_event(values, source, None)

    def add_searches(self, page: Sequence[Mapping[str, Any]]) -> None:
        """Read documents of ``ubi_queries``: what was asked in a search."""
        for values in page:
            search, text = values.get("query_id"), values.get("user_query")
            if not isinstance(search, str) or not isinstance(text, str) or not text.strip():
                continue
            self._database.execute("INSERT OR IGNORE INTO searches VALUES (?, ?)", (search, self._query(None, text)))
            found = values.get("query_response_hit_ids")
            if isinstance(found, list):
                rows = ((search, doc, rank) for rank, value in enumerate(found, 1) if (doc := _text(value)))
                self._database.executemany("INSERT OR IGNORE INTO hits VALUES (?, ?, ?)", rows)

    def sum_up(self) -> ClickCounts:
        """Return the sums.

        Raises:
            DatasetError: Nothing in the log can be used.
        """
        one = self._database.execute
        if self.counts["click_events"] and not self.counts["impression_events"]:
            self._show_hits()
        self.counts["orphans"] += one(
            "SELECT COUNT(*) FROM seen WHERE search NOT IN (SELECT search FROM searches)"
        ).fetchone()[0]
        self.counts["no_position"] += one("SELECT COUNT(*) FROM seen WHERE position IS NULL").fetchone()[0]
        one(
            "INSERT INTO sums SELECT s.qid, e.doc, e.position, COUNT(*), TOTAL(e.clicked) FROM seen e JOIN searches s "
            "ON s.search = e.search WHERE e.position IS NOT NULL GROUP BY 1, 2, 3 ON CONFLICT DO UPDATE SET "
            "shown = shown + excluded.shown, clicked = clicked + excluded.clicked"
        )
        rows = one("SELECT qid, doc, position, shown, clicked FROM sums ORDER BY qid, doc, position").fetchall()
        if not rows:
            raise DatasetError("the log holds no impression with a query, a document and a position")
        self.counts["impressions"] = round(sum(row[3] for row in rows))
        self.counts["clicks"] = round(sum(row[4] for row in rows))
        numbers: dict[tuple[str, str], int] = {}
        pair = [numbers.setdefault((qid, doc), len(numbers)) for qid, doc, *_ in rows]
        position, shown, clicked = (np.array([row[idx] for row in rows]) for idx in (2, 3, 4))
        return ClickCounts(tuple(numbers), np.array(pair), position.astype(np.int64), shown, clicked)

    def texts(self) -> dict[str, str]:
        """Return what the queries were, by id; those that only came as an id are left out."""
        return dict(self._database.execute("SELECT qid, text FROM texts WHERE text IS NOT NULL").fetchall())

    def _show_hits(self) -> None:
        self.counts["hits_shown"] = self._database.execute("SELECT COUNT(*) FROM hits").fetchone()[0]
        if not self.counts["hits_shown"]:
            raise DatasetError(
                "the events hold clicks and no impression: how often a result was not clicked is not known",
                hint="add the export of ubi_queries with query_response_hit_ids, or log impressions",
            )
        self._database.execute(
            "INSERT INTO seen SELECT search, doc, position, 1, 0 FROM hits WHERE true ON CONFLICT DO UPDATE SET "
            "position = COALESCE(position, excluded.position)"
        )

    def _query(self, qid: str | None, text: str | None) -> str:
        known = qid or text_id(text or "")
        self._database.execute("INSERT OR IGNORE INTO texts VALUES (?, ?)", (known, text))
        return known

    def _add_row(self, row: Row, path: str, columns: Columns | None) -> None:
        self.counts["rows"] += 1
        field = {name: value_of(row, name, columns) for name in _FIELDS}
        text, qid = field["query"], _text(field["qid"])
        doc = _text(field["doc_id"])
        if not doc or not (qid or (isinstance(text, str) and text.strip())):
            raise DatasetError(
                f"no query or doc_id; the line has {', '.join(row.values) or 'nothing'}",
                path=path,
                line=row.line,
                hint="want query (or qid), doc_id, position, clicked; other names: --columns query=q,doc_id=sku",
            )
        position = _whole(field["position"], "position", path, row.line, least=1)
        known = self._query(qid, text if isinstance(text, str) else None)
        if field["impressions"] is not None:
            shown = _whole(field["impressions"], "impressions", path, row.line)
            clicks = _whole(field["clicks"], "clicks", path, row.line)
            if clicks > shown:
                raise DatasetError(
                    f"{clicks} clicks in {shown} impressions: a result is clicked at most once an impression",
                    path=path,
                    line=row.line,
                    hint="count a click once an impression",
                )
            self._database.execute(_SUM, (known, doc, position, shown, clicks))
            return
        clicked = _yes(field["clicked"], path, row.line)
        search = _text(field["search"])
        if search:
            self._database.execute("INSERT OR IGNORE INTO searches VALUES (?, ?)", (search, known))
            self._database.execute(_SEEN, (search, doc, position, 1, clicked))
        else:
            self._database.execute(_SUM, (known, doc, position, 1, clicked))

    def _add_event(self, values: Mapping[str, Any], path: str, line: int | None) -> None:
        """Source: UBI specification 1.x, event schema: ``event_attributes.object.object_id``, ``position.ordinal``."""
        self.counts["rows"] += 1
        action = values.get("action_name")
        if action != IMPRESSION and action not in self._clicks:
            self.counts["other_events"] += 1
            return
        search, doc = (
            _text(values.get("query_id")),
            _text(_inner(values.get("event_attributes"), "object", "object_id")),
        )
        if not search or not doc:
            self.counts["orphans"] += 1
            return
        ordinal = _inner(values.get("event_attributes"), "position", "ordinal")
        position = None if ordinal is None else _whole(ordinal, "position.ordinal", path, line, least=1)
        self.counts["impression_events" if action == IMPRESSION else "click_events"] += 1
        self.add_searches([values])
        self._database.execute(_SEEN, (search, doc, position, 1, int(action != IMPRESSION)))


_FIELDS = ("qid", "query", "doc_id", "position", "clicked", "clicks", "impressions", "search")


def _rows(file: DataFile, columns: Columns | None) -> Iterator[Row]:
    first = file.lines[0][1]
    if first.lstrip().startswith("{"):
        return json_rows(file)
    if columns or has_header(first, ("doc_id", "position")):
        return read_table(file.lines, file.path, columns)
    raise DatasetError(
        "no header names doc_id and position",
        path=file.path,
        line=file.lines[0][0],
        hint="the first line of a CSV is query,doc_id,position,clicked; other names: --columns query=q,doc_id=sku",
    )


def _inner(value: Any, *path: str) -> Any:
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _text(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else ""


def _whole(value: Any, name: str, path: str, line: int | None, *, least: int = 0) -> int:
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise DatasetError(
            f"{name} is {value!r}: want a whole number from {least} up",
            path=path,
            line=line,
            hint="positions count from 1" if least else None,
        )
    return value


def _yes(value: Any, path: str, line: int | None) -> int:
    if isinstance(value, bool) or value in (0, 1):
        return int(value)
    if isinstance(value, str) and value.strip().lower() in _YES:
        return _YES[value.strip().lower()]
    raise DatasetError(f"clicked is {value!r}: want 1 or 0, true or false", path=path, line=line)
