"""What was shown and clicked, summed per query, product and position; on disk, so that a log of any length fits.

Two sources: exports of OpenSearch's User Behavior Insights (indices ``ubi_queries`` and ``ubi_events``, one document a
line, as they are or under ``_source``), and a plain table.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from lrem_os.errors import DatasetError
from lrem_os.model.prompts import one_line
from lrem_os.train.construct.lines import MAX_QUERY_CHARS, Unusable, read_lines, read_objects

_TABLES = """
PRAGMA journal_mode = OFF;
CREATE TABLE queries (key TEXT PRIMARY KEY, text TEXT) WITHOUT ROWID;
CREATE TABLE searches (id TEXT PRIMARY KEY, key TEXT) WITHOUT ROWID;
CREATE TABLE shown (search TEXT, item TEXT, position INTEGER, source TEXT, PRIMARY KEY (search, item, source))
    WITHOUT ROWID;
CREATE TABLE acted (search TEXT, item TEXT, position INTEGER, converted INTEGER, PRIMARY KEY (search, item))
    WITHOUT ROWID;
CREATE TABLE sums (key TEXT, item TEXT, position INTEGER, shown INTEGER, clicked INTEGER, converted INTEGER);
"""

# One search is one impression of a product, and at most one click on it. A click without an impression implies one.
_SUM_UP = """
INSERT INTO sums
SELECT s.key, i.item, COALESCE(i.shown_at, i.acted_at), COUNT(*), COUNT(a.search), TOTAL(a.converted)
FROM (
    SELECT search, item, MIN(shown_at) AS shown_at, MIN(acted_at) AS acted_at
    FROM (
        SELECT search, item, position AS shown_at, NULL AS acted_at FROM shown WHERE source = :source
        UNION ALL SELECT search, item, NULL, position FROM acted
    ) GROUP BY search, item
) AS i
JOIN searches AS s ON s.id = i.search
LEFT JOIN acted AS a ON a.search = i.search AND a.item = i.item
GROUP BY 1, 2, 3
"""

_TABLE_COLUMNS = {"query", "doc_id", "clicks", "impressions", "conversions", "position"}


class ClickLog:
    """Impressions and clicks. Close it in the end: its file is deleted then.

    Args:
        click_actions: Names of the events that are clicks.
        convert_actions: Names of the events that say more than a click.
        limit: Read no more lines than this of each file.
        on_progress: Called with the counts for every line that is read.
    """

    def __init__(
        self,
        *,
        click_actions: Sequence[str] = ("click",),
        convert_actions: Sequence[str] = ("add_to_cart", "purchase"),
        limit: int | None = None,
        on_progress: Callable[[Mapping[str, int]], None] = lambda _counts: None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.unusable: list[tuple[str, Unusable]] = []
        self.database = sqlite3.connect("")  # a private file beyond a small cache
        self.database.executescript(_TABLES)
        self._clicks, self._conversions = frozenset(click_actions), frozenset(convert_actions)
        self._limit, self._on_progress = limit, on_progress

    def __enter__(self) -> ClickLog:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()

    def load(self, *, queries: Sequence[str] = (), events: Sequence[str] = (), tables: Sequence[str] = ()) -> None:
        """Read all files and sum them up. Raises ``DatasetError`` when a file as a whole cannot be used."""
        for path in queries:
            self._load_queries(path)
        for path in events:
            self._load_events(path)
        for path in tables:
            self._load_table(path)
        self._sum_up()

    def _load_queries(self, path: str | Path) -> None:
        """Read an export of ``ubi_queries``: ``query_id``, ``user_query``, ``query_response_hit_ids``."""
        for line, row in self._objects(path):
            search = _text(row.get("query_id"))
            if not search or not self._add_search(search, row.get("user_query")):
                self._refuse(path, line, "has no query_id with a user_query", row)
                continue
            self.counts["searches"] += 1
            found = row.get("query_response_hit_ids") or row.get("query_response_object_ids") or []
            if not isinstance(found, list):
                self._refuse(path, line, "query_response_hit_ids is no list", row)
                continue
            self.database.executemany(
                "INSERT OR IGNORE INTO shown VALUES (?, ?, ?, 'hits')",
                ((search, item, rank) for rank, value in enumerate(found, 1) if (item := _text(value))),
            )

    def _load_events(self, path: str | Path) -> None:
        """Read an export of ``ubi_events``: impressions, clicks, conversions; other actions are counted."""
        for line, row in self._objects(path):
            action = row.get("action_name")
            if action != "impression" and action not in self._clicks | self._conversions:
                self.counts["other_events"] += 1
                continue
            attributes = row.get("event_attributes")
            item = _text(_inner(attributes, "object", "object_id"))
            search = _text(row.get("query_id"))
            if not search or not item:
                self._refuse(path, line, "has no query_id or no event_attributes.object.object_id", row)
                continue
            self._add_search(search, row.get("user_query"))
            self._add_event(str(action), search, item, _whole(_inner(attributes, "position", "ordinal")))

    def _load_table(self, path: str | Path) -> None:
        """Read a table with tabs and a header: ``query``, ``doc_id``, and maybe the other columns.

        A line is a click where there is no ``clicks``; where there is no ``impressions`` the clicks are all that is
        known to have been shown.

        Raises:
            DatasetError: The header lacks a column, or names an unknown one.
        """
        header: list[str] = []
        for entry in self._lines(path, read_lines(path)):
            cells = [cell.strip() for cell in entry[1].split("\t")]
            if not header:
                header = _check_header(cells, path)
                continue
            reason = self._add_row(dict(zip(header, cells, strict=False)) if len(cells) == len(header) else {})
            if reason:
                self._refuse(path, entry[0], reason, entry[1])

    def _sum_up(self) -> None:
        """Sum the events up, after all is loaded. Impressions are the impression events, or all hits without them."""
        has_events = self.database.execute("SELECT 1 FROM shown WHERE source = 'event' LIMIT 1").fetchone()
        self.counts["orphan_clicks"] = self.database.execute(
            "SELECT COUNT(*) FROM acted WHERE search NOT IN (SELECT id FROM searches)"
        ).fetchone()[0]
        self.database.execute(_SUM_UP, {"source": "event" if has_events else "hits"})

    def _add_search(self, search: str, query: Any) -> bool:
        """Return whether the search has a text; the first one it had counts."""
        if not isinstance(query, str) or not query.strip() or len(query) > MAX_QUERY_CHARS:
            return False
        self.database.execute("INSERT OR IGNORE INTO searches VALUES (?, ?)", (search, self._add_query(query)))
        return True

    def _add_query(self, query: str) -> str:
        """Return what the spellings of a query that differ in case and white space have in common."""
        text = one_line(query)
        key = text.casefold()
        self.database.execute("INSERT OR IGNORE INTO queries VALUES (?, ?)", (key, text))
        return key

    def _add_event(self, action: str, search: str, item: str, position: int | None) -> None:
        if action == "impression":
            self.database.execute(
                "INSERT INTO shown VALUES (?, ?, ?, 'event') ON CONFLICT DO UPDATE "
                "SET position = MIN(COALESCE(position, excluded.position), COALESCE(excluded.position, position))",
                (search, item, position),
            )
            self.counts["impressions"] += 1
            return
        self.database.execute(
            "INSERT INTO acted VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE "
            "SET converted = MAX(converted, excluded.converted), position = COALESCE(position, excluded.position)",
            (search, item, position, int(action in self._conversions)),
        )
        self.counts["clicks" if action in self._clicks else "conversions"] += 1

    def _add_row(self, row: Mapping[str, str]) -> str:
        """Add a line of a table; return what is wrong with it, if anything."""
        if not row.get("query") or not row.get("doc_id") or len(row["query"]) > MAX_QUERY_CHARS:
            return "has no query and doc_id, or another number of columns than the header"
        numbers = {name: _whole(row[name]) for name in _TABLE_COLUMNS - {"query", "doc_id"} if row.get(name)}
        if None in numbers.values():
            return "has a number that is not whole, or below 0"
        clicks = numbers.get("clicks", 1) or 0
        shown = numbers.get("impressions", clicks) or 0
        if clicks > shown:
            return f"has {clicks} clicks in {shown} impressions: count a click once an impression"
        values = (row["doc_id"], numbers.get("position"), shown, clicks, numbers.get("conversions", 0))
        self.database.execute("INSERT INTO sums VALUES (?, ?, ?, ?, ?, ?)", (self._add_query(row["query"]), *values))
        self.counts["clicks"] += clicks
        self.counts["impressions"] += shown
        return ""

    def _objects(self, path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from self._lines(path, read_objects(path))

    def _lines(self, path: str | Path, entries: Iterator[Any]) -> Iterator[tuple[int, Any]]:
        for entry in islice(entries, self._limit):
            self.counts["read"] += 1
            self._on_progress(self.counts)
            if isinstance(entry, Unusable):
                self._refuse(path, entry.line, entry.reason, entry.text)
            else:
                yield entry

    def _refuse(self, path: str | Path, line: int, reason: str, value: Any) -> None:
        self.counts["unusable"] += 1
        if len(self.unusable) < 1000:  # named so far; all are counted
            self.unusable.append((Path(path).name, Unusable(line, reason, str(value)[:200])))


def _check_header(cells: list[str], path: str | Path) -> list[str]:
    known = ", ".join(sorted(_TABLE_COLUMNS))
    if not {"query", "doc_id"} <= set(cells) <= _TABLE_COLUMNS or len(set(cells)) < len(cells):
        raise DatasetError(
            f"the header is {cells}: want query, doc_id and others of {known}, each once", path=path, line=1
        )
    return cells


def _inner(value: Any, *names: str) -> Any:
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _text(value: Any) -> str:
    """Return an id as text; numbers are common in exports and mean their digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value.strip() if isinstance(value, str) else ""


def _whole(value: Any) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31 else None
