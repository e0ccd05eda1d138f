"""The parts put together: what the command line calls, and Python users too.

Every function takes the whole ``Settings`` and hands each part its section. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opensearchpy import OpenSearch

from lrem_os.config import Settings
from lrem_os.errors import ConfigError, RequestRejected
from lrem_os.ingest.report import IngestReport, Tally
from lrem_os.ingest.run import IngestOptions
from lrem_os.ingest.run import ingest as run_ingest
from lrem_os.model.load import load_embedder
from lrem_os.node.local import find_node
from lrem_os.search import client as search_client
from lrem_os.search import index as indices
from lrem_os.types import Embedder


def connect(settings: Settings) -> OpenSearch:
    """Return a client for the configured cluster, or for the local node where none is configured.

    Raises:
        ConfigError: There is neither, or the local node was asked for what would kill it.
    """
    node = None if settings.search.hosts else find_node(settings.node)
    if node is not None and settings.index.engine != "lucene":
        raise ConfigError(
            f"index.engine {settings.index.engine!r} needs native libraries that the local node lacks",
            hint="use lucene here, or set search.hosts to a cluster that has them",
        )
    return search_client.connect(
        settings.search,
        default_url=node.url if node is not None else None,
        pool_size=max(10, settings.ingest.senders + 2),
    )


def ingest_catalog(
    settings: Settings,
    files: Sequence[str],
    options: IngestOptions | None = None,
    *,
    embedder: Embedder | None = None,
    on_progress: Callable[[Tally], None] = lambda _tally: None,
) -> IngestReport:
    """Load catalog files; return the account of every row.

    Args:
        settings: The configuration.
        files: Paths, globs, ``-`` for standard input.
        options: Recreate, sync, dry run.
        embedder: Used in place of the configured model.
        on_progress: Called with the running counters, from several threads.
    """
    options = options or IngestOptions()
    if options.dry_run:
        return run_ingest(None, settings, None, files, options, on_progress=on_progress)
    client = connect(settings)
    search_client.server_info(client)  # an unreachable or unsuitable server is told before the model is loaded
    return run_ingest(
        client, settings, embedder or load_embedder(settings.model), files, options, on_progress=on_progress
    )


def list_indices(settings: Settings) -> list[dict[str, Any]]:
    """Return the versions of the index, oldest first, as rows to print."""
    client = connect(settings)
    alias = settings.index.name
    return [
        {
            "index": state.name,
            "documents": indices.count_documents(client, state.name),
            "model": state.meta.get("identity", {}).get("model", "unknown"),
            "fingerprint": state.meta.get("fingerprint", ""),
            "live": alias in state.aliases,
            "building": state.is_building,
            "loading": state.is_loading,
        }
        for state in indices.list_versions(client, alias)
    ]


def drop_index(settings: Settings, name: str) -> None:
    """Delete one version of the index. Raises ``RequestRejected`` when it is another index, or in use."""
    client = connect(settings)
    if name not in {state.name for state in indices.list_versions(client, settings.index.name)}:
        raise RequestRejected(
            f"{name!r} is no version of {settings.index.name!r}", hint="see `lrem-os index list` for those there are"
        )
    indices.drop_index(client, name)


def restore_indices(settings: Settings) -> list[str]:
    """Restore the settings of versions whose load was killed; return their names."""
    client = connect(settings)
    left = [state.name for state in indices.list_versions(client, settings.index.name) if state.is_loading]
    for name in left:
        indices.end_load(client, name)
    return left
