"""Brings the cluster to what is wanted, in an order that a killed run may end anywhere: the next one goes on.

What is right already is left alone, so a second run sends nothing. What changes, changes in place: the model keeps its
id, because pipelines and clients name it. A new address or key is a new connector, for a connector in use cannot be
changed; the model is pointed to it and deployed again (a model keeps what it knew when it was deployed), and the old
connector goes last. So an old connector that is still there says that a run was killed before it ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lrem_os.errors import Unsupported
from lrem_os.search.ml_commons import bodies, permissions
from lrem_os.search.ml_commons.bodies import Wanted
from lrem_os.search.ml_commons.cluster import ML, Cluster
from lrem_os.search.ml_commons.found import Found, look

Action = Literal["created", "updated", "unchanged", "deleted", "restored"]
DEFAULT_PIPELINE = "index.search.default_pipeline"
_DEPLOYED = ("DEPLOYED", "PARTIALLY_DEPLOYED")
_IDLE = ("REGISTERED", "UNDEPLOYED")


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one object.

    Args:
        action: What was done.
        what: Its kind.
        name: Its name.
        id: Its id, where it has one.
    """

    action: Action
    what: str
    name: str
    id: str | None = None


def register(cluster: Cluster, wanted: Wanted, *, allow: bool = False) -> list[Step]:
    """Bring the cluster to what is wanted; return what was done about each object.

    Args:
        cluster: The cluster, or its rehearsal.
        wanted: What is wanted.
        allow: Set the cluster settings that ML Commons needs.

    Raises:
        RequestRejected: Something else has our name.
        SearchError: ML Commons failed.
        Unsupported: The cluster's settings forbid it, and ``allow`` is not given.
    """
    found = look(cluster, wanted.name)
    group_step, group_id, note = _group(cluster, wanted, found, allow=allow)
    connector_step, connector_id = _connector(cluster, wanted, found)
    surplus = [old for old in found.connectors if old != connector_id]
    model_step, model_id = _model(
        cluster, wanted, found, group_id, connector_id, stale=bool(surplus) or note.is_pending
    )
    steps = [group_step, connector_step, model_step, *_pipelines(cluster, wanted, found, model_id)]
    for old in found.models:
        if old != model_id:
            drop_model(cluster, old)
            steps.append(Step("deleted", "model", wanted.name, old))
    for old in surplus:
        cluster.change("DELETE", f"{ML}/connectors/{old}")
        steps.append(Step("deleted", "connector", wanted.name, old))
    if note.is_pending:
        note.is_pending = False
        _describe(cluster, group_id, note)
    return steps


def drop_model(cluster: Cluster, model_id: str) -> None:
    """Undeploy and delete a model."""
    cluster.change("POST", f"{ML}/models/{model_id}/_undeploy", {})
    cluster.change("DELETE", f"{ML}/models/{model_id}")


def _group(cluster: Cluster, wanted: Wanted, found: Found, *, allow: bool) -> tuple[Step, str, permissions.Note]:
    """Make the model group, and set what the cluster must allow; the group's note about it comes first."""
    known = "" if found.group is None else str(found.group[1].get("description", ""))
    note = permissions.read_note(known)
    settings = permissions.read_settings(cluster)
    needed = permissions.lacking(settings, wanted.endpoint, note)
    if needed and not allow:
        raise forbidden(needed, wanted.endpoint)
    if needed and settings is not None:
        note = permissions.noted(note, settings, needed, wanted.endpoint)
    action: Action = "unchanged"
    if found.group is None:
        body = {"name": wanted.name, "description": note.described()}
        answer = cluster.change("POST", f"{ML}/model_groups/_register", body, model_group_id="<model group>")
        group_id, action = str(answer["model_group_id"]), "created"
    else:
        group_id = found.group[0]
        if needed:
            _describe(cluster, group_id, note)
            action = "updated"
    if needed:
        cluster.change("PUT", "/_cluster/settings", {"persistent": needed})
    return Step(action, "model group", wanted.name, group_id), group_id, note


def forbidden(needed: Mapping[str, Any], endpoint: str) -> Unsupported:
    """Return the error that names the settings in the way."""
    told = {
        permissions.ENDPOINTS: "has no entry for it",
        permissions.PRIVATE: "is false, and it is a private address",
        permissions.PRIVATE_ENDPOINTS: "has no entry for it",
    }
    return Unsupported(
        f"the cluster's settings keep ML Commons from calling {endpoint}: "
        + "; ".join(f"{key} {told[key]}" for key in needed),
        hint="`lrem-os connect --allow` sets them (with --dry-run: shows how), or ask who runs the cluster",
    )


def _describe(cluster: Cluster, group_id: str, note: permissions.Note) -> None:
    cluster.change("PUT", f"{ML}/model_groups/{group_id}", {"description": note.described()})


def _connector(cluster: Cluster, wanted: Wanted, found: Found) -> tuple[Step, str]:
    body = bodies.connector_body(wanted)
    for connector_id, row in found.connectors.items():
        if bodies.holds(row, body) and bodies.same_key(str(row["description"]), wanted.key):
            return Step("unchanged", "connector", wanted.name, connector_id), connector_id
    answer = cluster.change(
        "POST", f"{ML}/connectors/_create", bodies.with_key(body, wanted.key), connector_id="<connector>"
    )
    connector_id = str(answer["connector_id"])
    return Step("created", "connector", wanted.name, connector_id), connector_id


def _model(
    cluster: Cluster, wanted: Wanted, found: Found, group_id: str, connector_id: str, *, stale: bool
) -> tuple[Step, str]:
    """Register the model or bring it up to date, and deploy it; ``stale``: what is deployed is out of date."""
    body = bodies.model_body(wanted, group_id, connector_id)
    model_id = found.model_id
    if model_id is None:
        answer = cluster.change("POST", f"{ML}/models/_register", body, task_id="", model_id="<model>")
        task = cluster.wait(str(answer["task_id"]), "register the model")
        model_id = str(task.get("model_id") or answer["model_id"])
        cluster.deploy(model_id)
        return Step("created", "model", wanted.name, model_id), model_id
    row = found.models[model_id]
    updated = {key: value for key, value in body.items() if key not in ("function_name", "model_group_id")}
    differs = not bodies.holds(row, updated)
    if differs:
        cluster.change("PUT", f"{ML}/models/{model_id}", updated)
    state = row.get("model_state")
    if not (differs or stale) and state in _DEPLOYED:
        return Step("unchanged", "model", wanted.name, model_id), model_id
    if state not in _IDLE:
        cluster.change("POST", f"{ML}/models/{model_id}/_undeploy", {})
    cluster.deploy(model_id)
    return Step("updated", "model", wanted.name, model_id), model_id


def _pipelines(cluster: Cluster, wanted: Wanted, found: Found, model_id: str) -> list[Step]:
    name = wanted.name
    body = bodies.search_pipeline_body(wanted, model_id)
    steps = [_put(cluster, "search pipeline", f"/_search/pipeline/{name}", name, found.search_pipeline, body)]
    text_field = wanted.ingest_field or found.ingest_field
    if text_field is not None:
        body = bodies.ingest_pipeline_body(wanted, model_id, text_field)
        steps.append(_put(cluster, "ingest pipeline", f"/_ingest/pipeline/{name}", name, found.ingest_pipeline, body))
    if wanted.is_default:
        steps.append(_index_default(cluster, wanted))
    return steps


def _put(
    cluster: Cluster, what: str, path: str, name: str, found: Mapping[str, Any] | None, body: Mapping[str, Any]
) -> Step:
    if found == body:
        return Step("unchanged", what, name)
    cluster.change("PUT", path, body)
    return Step("created" if found is None else "updated", what, name)


def _index_default(cluster: Cluster, wanted: Wanted) -> Step:
    answer = cluster.read(f"/{wanted.index}/_settings/{DEFAULT_PIPELINE}?flat_settings=true") or {}
    before = next((block["settings"].get(DEFAULT_PIPELINE) for block in answer.values()), None)
    if before == wanted.name:
        return Step("unchanged", "default of index", wanted.index)
    cluster.change("PUT", f"/{wanted.index}/_settings", {DEFAULT_PIPELINE: wanted.name})
    return Step("created" if before is None else "updated", "default of index", wanted.index)
