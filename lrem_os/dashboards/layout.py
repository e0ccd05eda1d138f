"""A dashboard: rows of panels on a grid of 48 columns. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lrem_os.dashboards.objects import Reference, SavedObject, packed, search_source

_COLUMNS = 48
_PANEL_VERSION = "2.8.0"  # of the panel's form; newer servers bring it up to date themselves


@dataclass(frozen=True, slots=True)
class Row:
    """Panels beside each other.

    Args:
        height: In steps of the grid, each 20 pixels or so.
        panels: From the left; they share the width by their weights.
        weights: One a panel; empty: all alike.
    """

    height: int
    panels: tuple[SavedObject, ...]
    weights: tuple[int, ...] = ()


def dashboard(object_id: str, title: str, description: str, rows: Sequence[Row], *, since: str) -> SavedObject:
    """Return a dashboard.

    Args:
        object_id: Its id.
        title: Its name.
        description: One sentence for the list of dashboards.
        rows: From the top.
        since: Where its time begins when it is opened, such as ``now-24h``.
    """
    panels: list[dict[str, Any]] = []
    references: list[Reference] = []
    top = 0
    for row in rows:
        left = 0
        for panel, width in zip(row.panels, _widths(row), strict=True):
            number = len(panels)
            place = {"x": left, "y": top, "w": width, "h": row.height, "i": str(number)}
            panels.append(
                {
                    "version": _PANEL_VERSION,
                    "gridData": place,
                    "panelIndex": str(number),
                    "embeddableConfig": {},
                    "panelRefName": f"panel_{number}",
                }
            )
            references.append(Reference(f"panel_{number}", panel.kind, panel.object_id))
            left += width
        top += row.height
    attributes = {
        "description": description,
        "hits": 0,
        "version": 1,
        "panelsJSON": packed(panels),
        "optionsJSON": packed({"hidePanelTitles": False, "useMargins": True}),
        "timeRestore": True,
        "timeFrom": since,
        "timeTo": "now",
        "refreshInterval": {"pause": True, "value": 0},
        "kibanaSavedObjectMeta": search_source(has_index=False),
    }
    return SavedObject("dashboard", object_id, title, attributes, tuple(references))


def with_panels(page: SavedObject, rows: Sequence[Row]) -> list[SavedObject]:
    """Return the panels of a dashboard, and then itself."""
    return [*(panel for row in rows for panel in row.panels), page]


def _widths(row: Row) -> list[int]:
    weights = row.weights or (1,) * len(row.panels)
    ends = [round(_COLUMNS * sum(weights[: at + 1]) / sum(weights)) for at in range(len(weights))]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]
