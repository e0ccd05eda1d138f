"""The service inside the cluster, from the configuration: register, check, remove. What the command line calls."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from lrem_os import api
from lrem_os.config import Settings
from lrem_os.errors import ConfigError
from lrem_os.search import client as search_client
from lrem_os.search import index as indices
from lrem_os.search.dialect import Version, only_opensearch
from lrem_os.search.ml_commons.bodies import Wanted
from lrem_os.search.ml_commons.check import Finding, check
from lrem_os.search.ml_commons.cluster import Change, Cluster
from lrem_os.search.ml_commons.found import check_server, dimension_of
from lrem_os.search.ml_commons.register import Step, register
from lrem_os.search.ml_commons.remove import remove
from lrem_os.search.requests import fusion_pipeline

_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was done, or in a rehearsal would be.

    Args:
        steps: What became of each object.
        changes: The requests that changed something, credentials masked.
    """

    steps: list[Step]
    changes: list[Change]


def connect_service(settings: Settings, *, allow: bool = False, dry_run: bool = False) -> Outcome:
    """Register the service in ML Commons, or bring what is registered up to date; a second run changes nothing.

    Args:
        settings: The configuration.
        allow: Set the cluster settings that ML Commons needs.
        dry_run: Only look, and say what would be sent.

    Raises:
        ConfigError: The service's address is not known.
        IndexMissing: Nothing has been ingested.
        RequestRejected: Something else has the name.
        SearchError: ML Commons failed.
        Unsupported: The cluster is too old, has no ML Commons, or its settings forbid it.
    """
    cluster, wanted = _open(settings, dry_run=dry_run)
    steps = register(cluster, wanted, allow=allow)
    return Outcome(steps, cluster.changes)


def check_service(settings: Settings) -> Iterator[Finding]:
    """Yield what works and what does not, with real texts through ML Commons; nothing is changed.

    Raises:
        ConfigError: The service's address is not known.
        SearchError: The cluster cannot be asked, or can never work with the service.
    """
    cluster, wanted = _open(settings, dry_run=False)
    yield from check(cluster, wanted)


def disconnect_service(settings: Settings, *, dry_run: bool = False) -> Outcome:
    """Remove what ``connect_service`` registered, and the settings that it set; harmless when there is nothing.

    Raises:
        RequestRejected: Something else has the name.
        SearchError: The cluster failed.
        Unsupported: The cluster has no ML Commons.
    """
    _check_engine(settings)
    client = api.connect(settings)
    check_server(search_client.server_info(client))
    cluster = Cluster(client, settings.connect.timeout_s, is_rehearsal=dry_run)
    steps = remove(cluster, settings.connect.name)
    return Outcome(steps, cluster.changes)


def service_url(settings: Settings) -> str:
    """Return where the cluster reaches the service.

    Raises:
        ConfigError: ``connect.url`` is not set, and the cluster is on another machine or the address is none.
    """
    if settings.connect.url is not None:
        return settings.connect.url.rstrip("/")
    hint = "set connect.url to the address at which the cluster's nodes reach `lrem-os serve`"
    for host in settings.search.hosts:
        if not _is_loopback(urlsplit(host).hostname or ""):
            raise ConfigError("connect.url is not set, and OpenSearch is not on this machine", hint=hint)
    serve = settings.serve
    if serve.port == 0:
        raise ConfigError("connect.url is not set, and serve.port is 0, any free one", hint=hint)
    host = "127.0.0.1" if serve.host in _ANY else serve.host
    return f"{'https' if serve.cert_file else 'http'}://{f'[{host}]' if ':' in host else host}:{serve.port}"


def _open(settings: Settings, *, dry_run: bool) -> tuple[Cluster, Wanted]:
    _check_engine(settings)
    url = service_url(settings)
    client = api.connect(settings)
    info = search_client.server_info(client)
    check_server(info)
    cluster = Cluster(client, settings.connect.timeout_s, is_rehearsal=dry_run)
    return cluster, _wanted(settings, cluster, url, info.version)


def _check_engine(settings: Settings) -> None:
    only_opensearch(
        settings.search.engine,
        "`lrem-os connect`",
        why="it registers the service in ML Commons",
        hint="query from outside: `lrem-os search`, or lrem_os.search in Python",
    )


def _wanted(settings: Settings, cluster: Cluster, url: str, version: Version) -> Wanted:
    state = indices.require_index(cluster.client, settings.index.name)
    return Wanted(
        name=settings.connect.name,
        url=url,
        key=_key(settings),
        index=state.name,
        vector_field=settings.index.vector_field,
        dimension=dimension_of(cluster, state.name, settings.index.vector_field),
        fingerprint=str(state.meta.get("fingerprint", "")),
        read_timeout_s=math.ceil(settings.serve.timeout_s),
        fusion=fusion_pipeline(settings.search, version),
        batch=settings.serve.embed_batch,
        ingest_field=settings.connect.ingest_field,
        is_default=settings.connect.default,
    )


def _key(settings: Settings) -> str | None:
    if settings.connect.api_key is not None:
        return settings.connect.api_key.get_secret_value()
    keys = "" if settings.serve.api_keys is None else settings.serve.api_keys.get_secret_value()
    return next((key.strip() for key in keys.split(",") if key.strip()), None)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
