"""Takes everything of ours out of the cluster, in the reverse order: what is in use goes after what uses it."""

from __future__ import annotations

import time

from lrem_os.errors import SearchError
from lrem_os.search.ml_commons import permissions
from lrem_os.search.ml_commons.cluster import ML, Cluster, status_of
from lrem_os.search.ml_commons.found import Found, look
from lrem_os.search.ml_commons.register import DEFAULT_PIPELINE, Step, drop_model

_INGEST_DEFAULTS = ("index.default_pipeline", "index.final_pipeline")
_PAUSE_S = 0.2
_FREE_S = 10.0


def remove(cluster: Cluster, name: str) -> list[Step]:
    """Remove what ``register`` made under this name; return what was deleted. Harmless when there is nothing.

    Indices that search or ingest through our pipelines by default stop doing so first: without its default pipeline an
    index answers no search at all.

    Raises:
        RequestRejected: Something else has our name.
        SearchError: The cluster failed.
    """
    found = look(cluster, name)
    steps = [*_defaults(cluster, name, found), *_pipelines(cluster, name, found)]
    for model_id in found.models:
        drop_model(cluster, model_id)
        steps.append(Step("deleted", "model", name, model_id))
    for connector_id in found.connectors:
        _delete_when_free(cluster, f"{ML}/connectors/{connector_id}")
        steps.append(Step("deleted", "connector", name, connector_id))
    if found.group is not None:
        group_id, group = found.group
        steps += _restore(cluster, str(group["description"]))
        _delete_when_free(cluster, f"{ML}/model_groups/{group_id}")
        steps.append(Step("deleted", "model group", name, group_id))
    return steps


def _defaults(cluster: Cluster, name: str, found: Found) -> list[Step]:
    wanted = ([DEFAULT_PIPELINE] if found.search_pipeline is not None else []) + (
        list(_INGEST_DEFAULTS) if found.ingest_pipeline is not None else []
    )
    if not wanted:
        return []
    visible = "flat_settings=true&expand_wildcards=open,closed,hidden"  # and no system indices: they warn
    answer = cluster.read(f"/*,-.*/_settings/{','.join(wanted)}?{visible}") or {}
    steps = []
    for index, block in answer.items():
        ours = [key for key in wanted if block["settings"].get(key) == name]
        if ours:
            cluster.change("PUT", f"/{index}/_settings", dict.fromkeys(ours))
            steps.append(Step("deleted", "default of index", index))
    return steps


def _pipelines(cluster: Cluster, name: str, found: Found) -> list[Step]:
    steps = []
    for kind, body in (("search", found.search_pipeline), ("ingest", found.ingest_pipeline)):
        if body is not None:
            cluster.change("DELETE", f"/_{kind}/pipeline/{name}")
            steps.append(Step("deleted", f"{kind} pipeline", name))
    return steps


def _restore(cluster: Cluster, description: str) -> list[Step]:
    note = permissions.read_note(description)
    settings = permissions.read_settings(cluster) if note.before else None
    restored = {} if settings is None else permissions.to_restore(note, settings)
    if restored:
        cluster.change("PUT", "/_cluster/settings", {"persistent": restored})
    return [Step("restored", "cluster setting", key) for key in restored]


def _delete_when_free(cluster: Cluster, path: str) -> None:
    """Delete what a model used until a moment ago; that it is gone shows with a delay."""
    ends = time.monotonic() + min(_FREE_S, cluster.timeout_s)
    while True:
        try:
            cluster.change("DELETE", path)
            return
        except SearchError as exc:
            if status_of(exc) != 409 or time.monotonic() > ends:
                raise
        cluster.changes.pop()
        time.sleep(_PAUSE_S)
