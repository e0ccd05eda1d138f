"""The cluster's part: index templates, our fields in behaviour indices that are there, and how long records live.

Source: OpenSearch 3.6 documentation, "Index templates", "Index aliases" and "ISM API".
"""

from __future__ import annotations

from typing import Any

from lrem_os.dashboards.templates import (
    POLICY,
    UBI,
    build_templates,
    check_retention,
    first_index,
    lrem_fields,
    retention_policy,
)
from lrem_os.errors import RequestRejected, Unsupported
from lrem_os.query_plugin.service.ubi_records import Index
from lrem_os.search import index as indices
from lrem_os.search.ml_commons.cluster import Cluster

_POLICY_PATH = f"/_plugins/_ism/policies/{POLICY}"
_PLUGIN = "opensearch-index-management"


def prepare_indices(cluster: Cluster, eval_prefix: str, retention: str | None, notes: list[str]) -> list[str]:
    """Put the templates, and what else belongs to them; return their names. A second time changes nothing.

    Args:
        cluster: The connection.
        eval_prefix: Of the indices that evaluations are published to.
        retention: How long behaviour records are kept, such as ``30d``; ``None``: as it is, or for ever.
        notes: Filled with what else is worth knowing.

    Raises:
        RequestRejected: Records cannot be deleted by age: the index is none that can be followed by another.
        Unsupported: The cluster has no Index State Management.
    """
    policy = _find_policy(cluster)
    if retention is not None:
        check_retention(retention)
        if policy is None:
            raise Unsupported(
                f"records cannot be deleted after {retention}: the cluster has no Index State Management",
                hint=f"install the plugin {_PLUGIN}, or leave dashboards.retention out and delete old records yourself",
            )
        for index in UBI:
            _check_rolls(cluster, index)
    templates = build_templates(eval_prefix, rolled=bool(policy) or retention is not None)
    for name, body in templates.items():
        cluster.change("PUT", f"/_index_template/{name}", body)
    for index in UBI:
        _add_fields(cluster, index, notes)
    if retention is not None:
        _put_policy(cluster, retention, policy or {})
        notes.append(f"behaviour records are deleted after {retention}")
    return list(templates)


def remove_templates(cluster: Cluster, eval_prefix: str) -> list[str]:
    """Delete the templates, and the policy; return the names of those that were there."""
    gone = []
    for name in build_templates(eval_prefix):
        if cluster.read(f"/_index_template/{name}") is not None:
            cluster.change("DELETE", f"/_index_template/{name}")
            gone.append(name)
    if _find_policy(cluster):
        cluster.change("DELETE", _POLICY_PATH)
        gone.append(POLICY)
    return gone


def _find_policy(cluster: Cluster) -> dict[str, Any] | None:
    """Return our policy; empty: there is none; ``None``: the cluster knows no policies."""
    try:
        found = cluster.read(_POLICY_PATH)
    except RequestRejected:  # no handler for the path
        return None
    return found or {}


def _check_rolls(cluster: Cluster, index: Index) -> None:
    """Raise unless the name is free, or an alias of indices that follow each other."""
    state = cluster.read(f"/{index}")
    if state is not None and index in state:
        raise RequestRejected(
            f"{index!r} is one index, so that its old records cannot be deleted with their index",
            hint=f"stop the services, reindex it into {first_index(index)!r}, delete it, and run this again",
        )


def _put_policy(cluster: Cluster, retention: str, policy: dict[str, Any]) -> None:
    """Put the policy, and begin the indices that it moves along."""
    at = f"?if_seq_no={policy['_seq_no']}&if_primary_term={policy['_primary_term']}" if policy else ""
    cluster.change("PUT", f"{_POLICY_PATH}{at}", retention_policy(retention))
    for index in UBI:
        if cluster.read(f"/{index}") is None:
            cluster.change("PUT", f"/{first_index(index)}", {"aliases": {index: {"is_write_index": True}}})
        elif policy:  # indices keep the policy that they began with
            cluster.change("POST", f"/_plugins/_ism/change_policy/{index}-*", {"policy_id": POLICY})


def _add_fields(cluster: Cluster, index: Index, notes: list[str]) -> None:
    """Map our fields in an index that UBI's plugin or an earlier version made."""
    for name, body in (cluster.read(f"/{index}") or {}).items():
        if "lrem" not in body.get("mappings", {}).get("properties", {}):
            cluster.change("PUT", f"/{name}/_mapping", lrem_fields(index))
            if indices.count_documents(cluster.client, name):
                notes.append(f"{name} had no fields of ours: what was recorded before now is on no panel")
