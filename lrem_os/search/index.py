"""The index behind the alias: create, verify, load, publish, drop.

``products`` is an alias; the index behind it is ``products-v1``, ``-v2``, …. Each carries under ``_meta.lrem`` what it
was built with (``identity`` and its ``fingerprint``), whether it is still being built, and, while a bulk load runs,
the settings to restore: so a later command can finish what a killed one left behind.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from opensearchpy import OpenSearch

from lrem_os.errors import AccessDenied, IndexMismatch, IndexMissing, RequestRejected
from lrem_os.search.client import translate_errors
from lrem_os.text import TEMPLATE_VERSION

_OF_THE_TEXT = ("embedded_fields", "text_template")  # of an identity: what queries do not have


@dataclass(frozen=True, slots=True)
class IndexState:
    """One index as the cluster has it.

    Args:
        name: The index itself, never an alias.
        aliases: The names that point to it.
        meta: ``_meta.lrem``; empty when lrem-os did not make it.
        num_shards: Primary shards.
        restorable: The settings that a load changes, as they were before it.
    """

    name: str
    aliases: frozenset[str]
    meta: Mapping[str, Any]
    num_shards: int
    restorable: Mapping[str, Any]

    @property
    def is_building(self) -> bool:
        """Whether a rebuild has not been published yet."""
        return self.meta.get("state") == "building"

    @property
    def built(self) -> Mapping[str, Any]:
        """What the rebuild that finished says of itself; empty where none did, or a load has begun since."""
        found: Mapping[str, Any] = self.meta.get("built", {})
        return found

    @property
    def model(self) -> str:
        """Fingerprint of the model that the vectors are from; empty when lrem-os did not make the index."""
        identity = self.meta.get("identity")
        return model_fingerprint(identity) if identity else ""

    @property
    def is_loading(self) -> bool:
        """Whether bulk-load settings are in force: a load runs, or one was killed."""
        return "restore" in self.meta


def fingerprint(identity: Mapping[str, Any]) -> str:
    """Return the hash of what makes vectors of an index comparable with a query's, 16 hex digits."""
    return hashlib.sha256(orjson.dumps(identity, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def index_identity(embedder_identity: Mapping[str, Any], embedded_fields: Sequence[str]) -> dict[str, Any]:
    """Return what decides the vectors of an index: the model's identity, the fields and how they become text."""
    return {**embedder_identity, "embedded_fields": list(embedded_fields), "text_template": TEMPLATE_VERSION}


def model_fingerprint(identity: Mapping[str, Any]) -> str:
    """Return the hash of what makes a query's vector comparable with those of an index.

    Which fields were embedded, and how they became text, is no part of it: a query has none.
    """
    return fingerprint({key: value for key, value in identity.items() if key not in _OF_THE_TEXT})


def mapping_hash(mapping: Mapping[str, Any]) -> str:
    """Return the hash of a mapping, 16 hex digits."""
    return hashlib.sha256(orjson.dumps(mapping, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def build_meta(identity: Mapping[str, Any], mapping: Mapping[str, Any], *, building: bool) -> dict[str, Any]:
    """Return the value of ``_meta.lrem`` for a new index."""
    meta = {
        "format": 1,
        "identity": dict(identity),
        "fingerprint": fingerprint(identity),
        "mapping_hash": mapping_hash(mapping),
    }
    return meta | {"state": "building"} if building else meta


def find_index(client: OpenSearch, name: str) -> IndexState | None:
    """Return the index behind an alias or with this name; ``None`` when there is none.

    Raises:
        IndexMismatch: The alias points to several indices.
    """
    return _behind(name, _get(client, name))


def require_index(client: OpenSearch, name: str) -> IndexState:
    """Return the index behind an alias. Raises ``IndexMissing`` when there is none."""
    state = find_index(client, name)
    if state is None:
        raise IndexMissing(f"there is no index {name!r}", hint="ingest a catalog first: `lrem-os ingest catalog.jsonl`")
    return state


def list_versions(client: OpenSearch, name: str) -> list[IndexState]:
    """Return all versions of an index, oldest first."""
    return _versions(name, _get(client, f"{name}-v*"))


def survey(client: OpenSearch, name: str) -> tuple[IndexState | None, list[IndexState]]:
    """Return the index behind an alias and all versions, as ``find_index`` and ``list_versions`` do, of one moment.

    With two requests an index created between them would be missed by the one and counted by the other.
    """
    states = _get(client, f"{name},{name}-v*")
    return _behind(name, states), _versions(name, states)


def next_name(name: str, versions: Sequence[IndexState]) -> str:
    """Return the name of the next version: one above the highest that exists."""
    return f"{name}-v{(_version(name, versions[-1].name) or 0) + 1 if versions else 1}"


def create_index(client: OpenSearch, name: str, body: Mapping[str, Any], *, alias: str | None = None) -> None:
    """Create an index, with its alias in the same request when one is given."""
    full = dict(body) | ({"aliases": {alias: {}}} if alias else {})
    with translate_errors():
        client.indices.create(index=name, body=full)


def check_fingerprint(state: IndexState, identity: Mapping[str, Any]) -> None:
    """Raise ``IndexMismatch`` unless the index was built with the same model, prompts and embedded fields."""
    if not state.meta:
        raise IndexMismatch(
            f"index {state.name!r} was not made by lrem-os: nothing says which model its vectors are from",
            hint="choose another index.name, or rebuild it with `lrem-os ingest --recreate`",
        )
    if state.meta.get("fingerprint") == fingerprint(identity):
        return
    stored = state.meta.get("identity", {})
    changed = [
        f"{key}: {_show(stored.get(key))} in the index, {_show(identity.get(key))} now"
        for key in sorted(stored.keys() | identity.keys())
        if orjson.dumps(stored.get(key)) != orjson.dumps(identity.get(key))
    ]
    raise IndexMismatch(
        f"index {state.name!r} holds vectors of another model or text ({'; '.join(changed) or 'unknown difference'})",
        hint="go back to the model it was built with, or re-embed the catalog: `lrem-os ingest --recreate FILES`",
    )


def check_mapping(state: IndexState, mapping: Mapping[str, Any]) -> None:
    """Raise ``IndexMismatch`` unless the index has this mapping."""
    if state.meta.get("mapping_hash") != mapping_hash(mapping):
        raise IndexMismatch(
            f"the mapping of index {state.name!r} differs from the configuration (sections catalog and index)",
            hint="undo the change of the configuration, or rebuild: `lrem-os ingest --recreate FILES`",
        )


def begin_load(client: OpenSearch, name: str, *, drop_replicas: bool = False) -> Mapping[str, Any]:
    """Switch to bulk-load settings (no refresh), after writing down what to restore; return that.

    Args:
        client: The connection.
        name: The index.
        drop_replicas: Have no replicas meanwhile: faster, but a node that is lost takes its shards with it.

    The note is written first: whatever moment the process dies at, the next ``end_load`` finds it. Note and settings
    are read in one request, so a load that another process begins or ends meanwhile is seen whole or not at all.
    """
    state = require_index(client, name)
    with translate_errors():
        if not state.is_loading:
            kept = {key: value for key, value in state.meta.items() if key != "built"}  # until this load has ended
            _put_meta(client, name, kept | {"restore": dict(state.restorable)})
        replicas = 0 if drop_replicas else state.restorable["number_of_replicas"]
        loading = {"refresh_interval": "-1", "number_of_replicas": replicas}
        client.indices.put_settings(index=name, body={"index": loading})
    return state.restorable


def end_load(client: OpenSearch, name: str, restore: Mapping[str, Any] | None = None) -> None:
    """Restore the settings from before the load and make everything searchable. Harmless when none was running.

    Args:
        client: The connection.
        name: The index.
        restore: What ``begin_load`` returned: used when another load that ran beside this one took the note away.

    Raises:
        IndexMissing: The index was deleted while it was being loaded.
    """
    state = require_index(client, name)
    if not state.meta:
        raise IndexMissing(
            f"index {name!r} was deleted while it was being loaded, and OpenSearch made a bare one in its place",
            hint=f"delete the index {name!r} and ingest again",
        )
    if state.is_loading or restore is not None:
        with translate_errors():
            client.indices.put_settings(index=name, body={"index": dict(state.meta.get("restore", restore or {}))})
            _put_meta(client, name, {key: value for key, value in state.meta.items() if key != "restore"})
    refresh(client, name)


def copies_under_way(client: OpenSearch, name: str, *, timeout_s: float) -> int:
    """Wait until no copy of a shard is being made any more; return how many still are when the time is over.

    A replica that cannot be placed, as on a node that is alone, is not waited for. Where the user may not ask, 0.
    """
    params = {
        "wait_for_no_initializing_shards": "true",
        "timeout": f"{timeout_s:g}s",
        "request_timeout": timeout_s + 30,
        "ignore": 408,
    }
    try:
        with translate_errors():
            return int(client.cluster.health(index=name, params=params)["initializing_shards"])
    except AccessDenied:
        return 0


def refresh(client: OpenSearch, name: str) -> None:
    """Make everything written so far searchable."""
    with translate_errors():
        client.indices.refresh(index=name, params={"request_timeout": 300})


def note_built(client: OpenSearch, name: str, account: Mapping[str, Any]) -> None:
    """Write down that a rebuild is complete, with its account; the next load into the index takes the note away."""
    state = require_index(client, name)
    with translate_errors():
        _put_meta(client, name, dict(state.meta) | {"built": dict(account)})


def publish(client: OpenSearch, alias: str, name: str) -> str | None:
    """Point the alias to an index, atomically; return the index it pointed to before. The old one is kept.

    The new one carries under ``_meta.lrem.replaced`` the name of the old one: the way back.
    """
    new, old = require_index(client, name), find_index(client, alias)
    check_alias(old, alias)
    actions: list[dict[str, Any]] = [{"add": {"index": name, "alias": alias}}]
    meta = {key: value for key, value in new.meta.items() if key != "state"}
    if old is not None and old.name != name:
        # must_exist: of two that switch at the same moment one fails, so the alias never leads to two indices
        actions.append({"remove": {"index": old.name, "alias": alias, "must_exist": True}})
        meta["replaced"] = old.name
    try:
        with translate_errors():
            _put_meta(client, name, meta)
            client.indices.update_aliases(body={"actions": actions})
    except RequestRejected:
        now = find_index(client, alias)
        if now is None or now.name != name:  # another ingest of the same version may have been faster: all is done
            raise
    return old.name if old is not None and old.name != name else None


def check_alias(state: IndexState | None, alias: str) -> None:
    """Raise ``RequestRejected`` when the name is an index of its own: it cannot be switched to another."""
    if state is not None and state.name == alias:
        raise RequestRejected(
            f"{alias!r} is an index, not an alias, so it cannot be switched",
            hint="set index.name to a name that no index has",
        )


def drop_index(client: OpenSearch, name: str) -> None:
    """Delete one version. Raises ``RequestRejected`` while an alias points to it."""
    state = require_index(client, name)
    if state.aliases:
        raise RequestRejected(
            f"index {name!r} is in use by alias {', '.join(sorted(state.aliases))}",
            hint="publish another version first: `lrem-os ingest --recreate FILES`",
        )
    with translate_errors():
        client.indices.delete(index=state.name)


def count_documents(client: OpenSearch, name: str) -> int:
    """Return the number of searchable documents."""
    with translate_errors():
        return int(client.count(index=name)["count"])


def write_count(client: OpenSearch, name: str) -> int:
    """Return a number that grows with every write into an index: of all its primary shards, the sequence numbers.

    Source: OpenSearch documentation, "Index stats", level ``shards``.
    """
    with translate_errors():
        answer = client.indices.stats(index=name, params={"level": "shards"})
    copies = [copy for shard in answer["indices"][name]["shards"].values() for copy in shard]
    return sum(int(copy["seq_no"]["max_seq_no"]) + 1 for copy in copies if copy["routing"]["primary"])


def _get(client: OpenSearch, pattern: str) -> list[IndexState]:
    with translate_errors():
        params = {"ignore_unavailable": "true", "expand_wildcards": "all"}  # closed and hidden ones have names too
        answer = client.indices.get(index=pattern, params=params)
    return [_state(name, body) for name, body in answer.items()]


def _state(name: str, body: Mapping[str, Any]) -> IndexState:
    meta = body.get("mappings", {}).get("_meta", {}).get("lrem", {})
    settings = body["settings"]["index"]
    now = {
        "refresh_interval": settings.get("refresh_interval"),  # None: the server's default
        "number_of_replicas": int(settings.get("number_of_replicas", 0)),
    }
    return IndexState(
        name=name,
        aliases=frozenset(body.get("aliases", {})),
        meta=meta,
        num_shards=int(settings.get("number_of_shards", 1)),
        restorable=meta.get("restore", now),
    )


def _put_meta(client: OpenSearch, name: str, meta: Mapping[str, Any]) -> None:
    client.indices.put_mapping(index=name, body={"_meta": {"lrem": dict(meta)}})


def _behind(name: str, states: Sequence[IndexState]) -> IndexState | None:
    found = [state for state in states if name == state.name or name in state.aliases]
    if len(found) > 1:
        names = ", ".join(state.name for state in found)
        raise IndexMismatch(
            f"alias {name!r} points to several indices ({names})", hint="leave one of them in the alias"
        )
    return found[0] if found else None


def _versions(name: str, states: Sequence[IndexState]) -> list[IndexState]:
    found = [state for state in states if _version(name, state.name) is not None]
    return sorted(found, key=lambda state: _version(name, state.name) or 0)


def _version(alias: str, name: str) -> int | None:
    match = re.fullmatch(re.escape(alias) + r"-v([1-9][0-9]*)", name)
    return int(match[1]) if match else None


def _show(value: object) -> str:
    return "nothing" if value is None else str(value)[:80]
