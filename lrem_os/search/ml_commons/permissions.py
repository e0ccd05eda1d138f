"""What the cluster's settings must allow before ML Commons may call the service, and how it was before we set it.

A note about that goes into the description of the model group, before anything is set: whatever moment a run dies at,
``--remove`` finds it.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import orjson

from lrem_os.errors import AccessDenied
from lrem_os.search.ml_commons.bodies import MARK
from lrem_os.search.ml_commons.cluster import Cluster

_PREFIX = "plugins.ml_commons."
ENDPOINTS = f"{_PREFIX}trusted_connector_endpoints_regex"
PRIVATE = f"{_PREFIX}connector.private_ip_enabled"
PRIVATE_ENDPOINTS = f"{_PREFIX}trusted_connector_private_endpoints_regex"  # from 3.7 on
_NOTE = re.compile(r"\(note ([A-Za-z0-9_-]+)\)$")


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Settings of ML Commons by full name: what somebody set, and what is in force."""

    persistent: Mapping[str, Any]
    effective: Mapping[str, Any]


@dataclass(slots=True)
class Note:
    """What was set for us.

    Args:
        before: Setting → value that was persistent before; ``None``: none was.
        base: List setting → entries that were in force before.
        added: Entries that were added to lists.
        is_pending: The model must be deployed again: it keeps what was allowed when it was deployed.
    """

    before: dict[str, Any] = field(default_factory=dict)
    base: dict[str, list[str]] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    is_pending: bool = False

    def described(self) -> str:
        """Return the description of the model group."""
        if not self.before:
            return f"{MARK}: vectors from the lrem-os service"
        kept = {"before": self.before, "base": self.base, "added": self.added, "pending": self.is_pending}
        text = base64.urlsafe_b64encode(orjson.dumps(kept)).decode().rstrip("=")
        return f"{MARK}: vectors from the lrem-os service (note {text})"


def read_note(description: str) -> Note:
    """Return the note in a description of a model group; an empty one where there is none."""
    match = _NOTE.search(description)
    if match is None:
        return Note()
    try:
        kept = orjson.loads(base64.urlsafe_b64decode(match[1] + "=" * (-len(match[1]) % 4)))
        return Note(dict(kept["before"]), dict(kept["base"]), list(kept["added"]), bool(kept["pending"]))
    except (ValueError, KeyError, TypeError):  # somebody wrote into it
        return Note()


def read_settings(cluster: Cluster) -> ClusterSettings | None:
    """Return the settings; ``None`` when the user may not see them: then the cluster says no by itself."""
    try:
        answer = cluster.read("/_cluster/settings?include_defaults=true&flat_settings=true") or {}
    except AccessDenied:
        return None
    parts = {part: answer.get(part, {}) for part in ("defaults", "persistent", "transient")}
    return ClusterSettings(parts["persistent"], parts["defaults"] | parts["persistent"] | parts["transient"])


def lacking(settings: ClusterSettings | None, url: str, note: Note) -> dict[str, Any]:
    """Return the settings that keep ML Commons from calling an address, each with the value it needs.

    Args:
        settings: Of the cluster.
        url: What is called.
        note: Entries that it says we added are ours to replace.
    """
    if settings is None:
        return {}
    found = settings.effective
    needed: dict[str, Any] = {}
    is_private = is_private_host(urlsplit(url).hostname or "")
    if not _matches(found.get(ENDPOINTS), url):
        needed[ENDPOINTS] = _with_ours(found.get(ENDPOINTS), url, note)
    if is_private and str(found.get(PRIVATE, False)).lower() != "true":
        needed[PRIVATE] = True
    if is_private and found.get(PRIVATE_ENDPOINTS) and not _matches(found[PRIVATE_ENDPOINTS], url):
        needed[PRIVATE_ENDPOINTS] = _with_ours(found[PRIVATE_ENDPOINTS], url, note)
    return needed


def noted(note: Note, settings: ClusterSettings, needed: Mapping[str, Any], url: str) -> Note:
    """Return the note to write before ``needed`` is set."""
    added = list(dict.fromkeys([*note.added, endpoint_regex(url)]))
    before, base = dict(note.before), dict(note.base)
    for key, value in needed.items():
        before.setdefault(key, settings.persistent.get(key))
        if isinstance(value, list):
            base.setdefault(key, [entry for entry in _entries(settings.effective.get(key)) if entry not in added])
    return Note(before, base, added, is_pending=True)


def to_restore(note: Note, settings: ClusterSettings) -> dict[str, Any]:
    """Return what to set so that nothing of ours is left; what somebody else added since stays."""
    restored = {}
    for key, before in note.before.items():
        current = settings.persistent.get(key)
        if current is None:
            continue
        if key not in note.base:
            if str(current).lower() == "true" and current != before:
                restored[key] = before
            continue
        rest = [entry for entry in _entries(current) if entry not in note.added]
        value = before if rest == note.base[key] else rest
        if value != current:
            restored[key] = value
    return restored


def endpoint_regex(url: str) -> str:
    """Return the entry that trusts the server behind an address.

    >>> endpoint_regex("http://127.0.0.1:8099/v1/embeddings")
    '^http://127\\\\.0\\\\.0\\\\.1:8099/.*$'
    """
    parts = urlsplit(url)
    return f"^{re.escape(f'{parts.scheme}://{parts.netloc}')}/.*$"


def is_private_host(host: str) -> bool:
    """Return whether ML Commons counts a host among private addresses; a name that is not known here is taken for one.

    >>> is_private_host("10.1.2.3"), is_private_host("8.8.8.8")
    (True, False)
    """
    try:
        addresses = [host] if _is_address(host) else [str(row[4][0]) for row in socket.getaddrinfo(host, None)]
    except OSError:
        return True
    parsed = [ipaddress.ip_address(address.split("%")[0]) for address in addresses]
    return any(address.is_private or address.is_loopback or address.is_link_local for address in parsed)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _entries(value: object) -> list[str]:
    if isinstance(value, str):
        return [entry.strip() for entry in value.split(",") if entry.strip()]
    return [str(entry) for entry in value] if isinstance(value, Sequence) else []


def _matches(patterns: object, url: str) -> bool:
    """Return whether ML Commons trusts an address; a pattern in words that only Java knows is left to it to judge."""
    for pattern in _entries(patterns):
        try:
            if re.fullmatch(pattern, url):
                return True
        except re.error:
            return True
    return False


def _with_ours(value: object, url: str, note: Note) -> list[str]:
    return [*(entry for entry in _entries(value) if entry not in note.added), endpoint_regex(url)]
