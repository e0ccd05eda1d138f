"""Dashboards from the configuration: install, bring up to date, remove, export. What the command line calls.

``install`` adds what is missing and leaves alone what is there: somebody may have changed it. ``update`` makes
everything as this version of lrem-os has it, and deletes what earlier versions had and this one does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from lrem_os import api
from lrem_os.config import Settings
from lrem_os.dashboards.build import Wanted, build_objects, id_prefix
from lrem_os.dashboards.indices import prepare_indices, remove_templates
from lrem_os.dashboards.objects import SavedObject, to_ndjson
from lrem_os.dashboards.server import Dashboards, Key, Stored
from lrem_os.dashboards.templates import build_templates
from lrem_os.errors import InputError, RequestRejected
from lrem_os.search.client import server_info
from lrem_os.search.dialect import only_opensearch
from lrem_os.search.ml_commons.cluster import Cluster


@dataclass(slots=True)
class Outcome:
    """What was done; objects as ``type id``.

    Args:
        created: New in Dashboards.
        updated: Overwritten.
        unchanged: There already, as this version has them.
        different: There already, and not as this version has them; left alone.
        removed: Deleted.
        templates: Index templates that were put or deleted.
        notes: What else is worth knowing.
    """

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    different: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    templates: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def wanted_of(settings: Settings) -> Wanted:
    """Return what the objects depend on."""
    dashboards = settings.dashboards
    return Wanted(
        dashboards.workspace or "", dashboards.eval_prefix, settings.eval.gpu_hour_price, settings.eval.currency
    )


def write_file(settings: Settings, path: Path) -> list[SavedObject]:
    """Write what would be imported; nothing is asked. Return it.

    Raises:
        InputError: The file cannot be written.
    """
    objects = build_objects(wanted_of(settings))
    _write(path, to_ndjson(objects))
    return objects


def templates_of(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return the index templates that would be put, by name."""
    return build_templates(settings.dashboards.eval_prefix, rolled=settings.dashboards.retention is not None)


def install(settings: Settings, *, overwrite: bool = False, with_templates: bool = True) -> Outcome:
    """Put the objects into Dashboards, and the index templates into the cluster; a second time changes nothing.

    Args:
        settings: The configuration.
        overwrite: Bring up to date what is there and differs, and delete what is no longer ours.
        with_templates: Prepare the cluster too.

    Raises:
        RequestRejected: Dashboards or the cluster refused something.
        SearchError: One of them cannot be reached.
        Unsupported: Records shall be deleted after a while, and the cluster cannot do that; or it is Elasticsearch.
    """
    _only_opensearch(settings)
    outcome = Outcome()
    server = Dashboards(settings.dashboards, settings.search)
    objects = build_objects(wanted_of(settings))
    found = server.stored([_key(one) for one in objects])
    sent = _sort(objects, found, outcome, overwrite=overwrite)
    if overwrite:
        _remove_obsolete(server, settings, objects, found, outcome)
    if sent:
        server.write(sent)
    if with_templates:
        cluster = _cluster(settings)
        outcome.templates = prepare_indices(
            cluster, settings.dashboards.eval_prefix, settings.dashboards.retention, outcome.notes
        )
    return outcome


def remove(settings: Settings, *, with_templates: bool = True) -> Outcome:
    """Delete the objects, and the index templates; indices and what is in them stay.

    Raises:
        RequestRejected: Dashboards or the cluster refused something.
        SearchError: One of them cannot be reached.
        Unsupported: ``search.engine`` is elasticsearch.
    """
    _only_opensearch(settings)
    outcome = Outcome()
    server = Dashboards(settings.dashboards, settings.search)
    objects = build_objects(wanted_of(settings))
    keys = [_key(one) for one in objects]
    keys += sorted(_ours(settings, server.stored([key for key in keys if key[0] == "dashboard"]), keys))
    for key in reversed(keys):  # dashboards before their panels
        if server.delete(key):
            outcome.removed.append(" ".join(key))
    if with_templates:
        outcome.templates = remove_templates(_cluster(settings), settings.dashboards.eval_prefix)
    return outcome


def export(settings: Settings, path: Path) -> int:
    """Write what Dashboards has of ours, changes of its users included; return how many objects.

    Raises:
        InputError: The file cannot be written.
        RequestRejected: Nothing of ours is there.
        Unsupported: ``search.engine`` is elasticsearch.
    """
    _only_opensearch(settings)
    server = Dashboards(settings.dashboards, settings.search)
    keys = [_key(one) for one in build_objects(wanted_of(settings)) if one.kind == "dashboard"]
    there = list(server.stored(keys))
    if not there:
        raise RequestRejected(
            f"none of our dashboards is in {settings.dashboards.url}",
            hint="lrem-os dashboards install; the same tenant?",
        )
    data = server.export(there)
    _write(path, data)
    return sum(bool(line.strip()) for line in data.split(b"\n"))


def is_same(one: SavedObject, stored: Stored) -> bool:
    """Return whether Dashboards has an object as it would be sent.

    The fields of an index pattern are Dashboards' to fill in, and members that are not ours do not count.
    """
    wanted = one.to_dict()
    ours = {name: _opened(value) for name, value in wanted["attributes"].items()}
    theirs = {name: _opened(stored.attributes.get(name)) for name in ours}
    for attributes in (ours, theirs):
        attributes.pop("fields", None)
    return ours == theirs and _sorted(wanted["references"]) == _sorted(stored.references)


def _sort(
    objects: Sequence[SavedObject], found: dict[Key, Stored], outcome: Outcome, *, overwrite: bool
) -> list[SavedObject]:
    """Return those that are to be sent; note what becomes of each."""
    sent = []
    for one in objects:
        key = _key(one)
        name = " ".join(key)
        if key not in found:
            outcome.created.append(name)
            sent.append(one)
        elif is_same(one, found[key]):
            outcome.unchanged.append(name)
        elif overwrite:
            outcome.updated.append(name)
            sent.append(one)
        else:
            outcome.different.append(name)
    return sent


def _remove_obsolete(
    server: Dashboards,
    settings: Settings,
    objects: Sequence[SavedObject],
    found: dict[Key, Stored],
    outcome: Outcome,
) -> None:
    for key in sorted(_ours(settings, found, [_key(one) for one in objects])):
        if server.delete(key):
            outcome.removed.append(" ".join(key))


def _ours(settings: Settings, found: dict[Key, Stored], known: Sequence[Key]) -> set[Key]:
    """Return what our dashboards refer to that this version does not make: by its id, an earlier version did."""
    prefix = id_prefix(settings.dashboards.workspace or "") + "-"
    refs = {
        (str(ref["type"]), str(ref["id"]))
        for key, one in found.items()
        if key[0] == "dashboard"
        for ref in one.references
    }
    return {key for key in refs - set(known) if key[1].startswith(prefix)}


def _only_opensearch(settings: Settings) -> None:
    only_opensearch(
        settings.search.engine,
        "`lrem-os dashboards`",
        why="the saved objects are of OpenSearch Dashboards",
        hint="the indices of `lrem-os eval publish` can be read with Kibana",
    )


def _cluster(settings: Settings) -> Cluster:
    client = api.connect(settings)
    server_info(client)
    return Cluster(client)


def _key(one: SavedObject) -> Key:
    return (one.kind, one.object_id)


def _opened(value: Any) -> Any:
    """Return a value with the JSON in its strings read, at any depth."""
    if isinstance(value, dict):
        return {name: _opened(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_opened(part) for part in value]
    if isinstance(value, str) and value[:1] in ("{", "["):
        try:
            return _opened(orjson.loads(value))
        except orjson.JSONDecodeError:
            return value
    return value


def _sorted(references: Any) -> list[tuple[str, str, str]]:
    return sorted((str(ref.get("name")), str(ref.get("type")), str(ref.get("id"))) for ref in references)


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as exc:
        raise InputError(f"{path} cannot be written: {exc.strerror}") from exc
