"""Everything that is installed into Dashboards, as one list. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from lrem_os.dashboards import ingests, quality, queries, traffic
from lrem_os.dashboards.objects import SavedObject
from lrem_os.dashboards.sources import build_sources
from lrem_os.eval import publish

PREFIX = "lrem-os"
"""All ids begin with it: what does not is not ours."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the objects depend on.

    Args:
        workspace: Whose objects they are: an id is unique over all workspaces of a server; empty: none.
        eval_prefix: Of the indices that evaluations are published to.
        gpu_hour_price: Price of an hour of the machine that reasons; ``None``: no price is shown.
        currency: Of that price.
    """

    workspace: str = ""
    eval_prefix: str = publish.DEFAULT_PREFIX
    gpu_hour_price: float | None = None
    currency: str = "USD"


def build_objects(wanted: Wanted) -> list[SavedObject]:
    """Return all saved objects, each after those that it refers to."""
    prefix = id_prefix(wanted.workspace)
    sources = build_sources(prefix, wanted.eval_prefix)
    return [
        *(source.saved() for source in sources.all()),
        *traffic.build(prefix, sources, gpu_hour_price=wanted.gpu_hour_price, currency=wanted.currency),
        *quality.build(prefix, sources),
        *queries.build(prefix, sources),
        *ingests.build(prefix, sources),
    ]


def id_prefix(workspace: str) -> str:
    """Return what the ids of a workspace's objects begin with.

    >>> id_prefix(""), id_prefix("ops")
    ('lrem-os', 'lrem-os-ops')
    """
    return f"{PREFIX}-{workspace}" if workspace else PREFIX
