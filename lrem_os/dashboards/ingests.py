"""The dashboard *Ingest*: how loads went, and whether the index is whole. Pure."""

from __future__ import annotations

from lrem_os.dashboards import aggs
from lrem_os.dashboards.layout import Row, dashboard, with_panels
from lrem_os.dashboards.objects import SavedObject, Source
from lrem_os.dashboards.panels import bars, controls, lines, note, number, table
from lrem_os.dashboards.sources import Sources

_TIME = "@timestamp"
_INGEST = "kind: ingest"
_TEXT = """\
One point an ingest: `lrem-os ingest` writes its account when it ends, since `lrem-os dashboards install`.

- **Rows**: read = indexed + unchanged + superseded + failed. Unchanged rows were neither embedded nor written.
- **Rows/s**: rows decided a second of wall time; unchanged rows are fast.
- **Failures by reason**: codes of the dead-letter file; each row is in it with its line.
- **Vectors against documents**: products in the index, and those among them with a vector. They must be equal: a \
product without one is found by words alone.
- **Model fingerprints**: 16 digits that change with the model, its text template or the embedded fields. Two in one \
alias is a rebuild; two at the same time for the same alias is a fault.
"""


def build(prefix: str, sources: Sources) -> list[SavedObject]:
    """Return the panels, and then the dashboard."""
    name, source = f"{prefix}-ingest", sources.ingests
    rows = [*_top(name, source), *_course(name, source), *_state(name, source)]
    page = dashboard(
        name,
        "lrem-os: Ingest",
        "Rate, failures by reason, model fingerprints, vectors against documents.",
        rows,
        since="now-30d",
    )
    return with_panels(page, rows)


def _top(name: str, source: Source) -> list[Row]:
    """Return what was loaded, in numbers."""
    text = note(f"{name}-note", "What the numbers mean", _TEXT)
    choose = controls(f"{name}-controls", "Filter", source, {"alias": "Alias", "fingerprint": "Model fingerprint"})
    summary = number(
        f"{name}-summary",
        "In this time",
        source,
        [
            aggs.count("Ingests"),
            aggs.total("indexed", "Indexed"),
            aggs.total("failed", "Failed"),
            aggs.avg("docs_per_s", "Rows/s"),
        ],
        query=_INGEST,
    )
    return [Row(13, (text, summary), (2, 3)), Row(6, (choose,))]


def _course(name: str, source: Source) -> list[Row]:
    """Return how it went."""
    rows = bars(
        f"{name}-rows",
        "Rows by what became of them",
        source,
        [
            aggs.total("indexed", "Indexed"),
            aggs.total("unchanged", "Unchanged"),
            aggs.total("superseded", "Superseded"),
            aggs.total("failed", "Failed"),
        ],
        [aggs.over_time(_TIME)],
        query=_INGEST,
        axis="Rows",
    )
    rate = lines(
        f"{name}-rate",
        "Rows/s",
        source,
        [aggs.avg("docs_per_s", "Rows/s")],
        [aggs.over_time(_TIME), aggs.terms("alias", "Alias", schema="group", by="_key", size=10)],
        query=_INGEST,
    )
    waits = bars(
        f"{name}-time",
        "Where the time goes (s)",
        source,
        [
            aggs.total("embed_s", "In the model"),
            aggs.total("embed_wait_s", "Model waits for rows"),
            aggs.total("send_wait_s", "Model waits for the cluster"),
        ],
        [aggs.over_time(_TIME)],
        query=_INGEST,
        axis="Seconds",
        stacked=False,
    )
    failures = bars(
        f"{name}-failures",
        "Failures by reason",
        source,
        [aggs.total("count", "Rows")],
        [aggs.over_time(_TIME), aggs.terms("code", "Reason", schema="group", size=12)],
        query="kind: failure",
    )
    return [Row(14, (rows, rate)), Row(14, (failures, waits))]


def _state(name: str, source: Source) -> list[Row]:
    """Return what is there now."""
    whole = lines(
        f"{name}-vectors",
        "Vectors against documents",
        source,
        [aggs.highest("documents", "Documents"), aggs.highest("vectors", "Vectors")],
        [aggs.over_time(_TIME), aggs.terms("alias", "Alias", schema="group", by="_key", size=10)],
        query=_INGEST,
    )
    models = table(
        f"{name}-models",
        "Model fingerprints in use",
        source,
        [
            aggs.highest(_TIME, "Last ingest"),
            aggs.highest("documents", "Documents"),
            aggs.highest("vectors", "Vectors"),
            aggs.count("Ingests"),
        ],
        [
            aggs.terms("alias", "Alias", schema="bucket", size=20),
            aggs.terms("index", "Index", schema="bucket", size=10),
            aggs.terms("fingerprint", "Fingerprint", schema="bucket", size=10),
            aggs.terms("model", "Model", schema="bucket", size=5),
        ],
        query=_INGEST,
    )
    latest = table(
        f"{name}-latest",
        "Latest ingests",
        source,
        [
            aggs.highest(_TIME, "Ended"),
            aggs.latest("index", "Index", by=_TIME),
            aggs.highest("read", "Read"),
            aggs.highest("indexed", "Indexed"),
            aggs.highest("unchanged", "Unchanged"),
            aggs.highest("failed", "Failed"),
            aggs.highest("deleted", "Deleted"),
            aggs.highest("seconds", "Seconds"),
        ],
        [aggs.terms("ingest", "Ingest", schema="bucket", size=50)],
        query=_INGEST,
        rows=12,
    )
    return [Row(14, (whole, models)), Row(14, (latest,))]
