"""From the settings to what answers queries: one retriever, or the runs of an evaluation, which share what they can.

``ServedRuns`` opens a run as it is served: ``direct``, ``reasoned`` and ``routed`` as the service answers on that
route, a mode as ``lrem-os search`` answers, an address as whoever asks it is answered. Models, vectors and reasonings
are those of all runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import orjson
from opensearchpy import OpenSearch

from lrem_os.config import ReasoningSettings, Settings
from lrem_os.config_fields import without_userinfo
from lrem_os.config_runs import with_overrides
from lrem_os.errors import AccessDenied, ConfigError, QueryError, SearchError, SearchUnavailable
from lrem_os.model.load import Models, check_reasoner
from lrem_os.model.prompts import COMBINE_TEMPLATE_VERSION
from lrem_os.node.cluster import local_hosts
from lrem_os.query_plugin.live import LiveRetriever
from lrem_os.query_plugin.readings import Progress, Readings
from lrem_os.query_plugin.retriever import DirectRetriever, build_retriever
from lrem_os.query_plugin.routed import build_reader, build_scorer, score_queries
from lrem_os.query_plugin.routing.gate import read_gate
from lrem_os.query_plugin.routing.probe import ask_probe
from lrem_os.search import client as search_client
from lrem_os.search import index as indices
from lrem_os.types import Embedder, Mode, Query, Retriever

_AFTER_READING = {"text_boost", "weights"}  # of ReasoningSettings: how a reading is asked with, not how it comes about
_NO_MATTER = {"timeout_s", "api_key"}
_RANKS: Mapping[Mode, set[str]] = {  # of SearchSettings: what decides a ranking
    "bm25": set(),
    "vector": {"candidates"},
    "hybrid": {"candidates", "fusion", "rank_constant", "weights"},
}
_API_KEY = "x-lrem-api-key"


class Run(Protocol):
    """How a run of an evaluation is retrieved; see ``lrem_os.eval.specs.RunSpec``."""

    @property
    def name(self) -> str:
        """In reports."""
        ...

    @property
    def mode(self) -> Mode | None:
        """In place of ``search.mode``; ``None``: as the service answers on the route."""
        ...

    @property
    def path(self) -> str:
        """A file: nothing is asked."""
        ...

    @property
    def url(self) -> str:
        """A service, or OpenSearch."""
        ...

    @property
    def reason(self) -> bool:
        """Whether every query is reasoned about."""
        ...

    @property
    def routed(self) -> bool:
        """Whether the router decides."""
        ...

    @property
    def share(self) -> float | None:
        """Its budget; ``None``: as configured."""
        ...

    @property
    def search(self) -> Mapping[str, Any]:
        """Keys of ``search`` in place of the configured ones."""
        ...

    @property
    def reasoning(self) -> Mapping[str, Any]:
        """Keys of ``reasoning`` likewise."""
        ...


def connect(settings: Settings) -> OpenSearch:
    """Return a client for the configured cluster, or for the local node where none is configured.

    Raises:
        ConfigError: There is neither, or the local node was asked for what would kill it.
    """
    hosts = () if settings.search.hosts else local_hosts(settings.node)
    if hosts and settings.index.engine != "lucene":
        raise ConfigError(
            f"index.engine {settings.index.engine!r} needs native libraries that the local node lacks",
            hint="use lucene here, or set search.hosts to a cluster that has them",
        )
    pool_size = max(10, settings.ingest.senders + 2, settings.eval.concurrency + 2)
    search = settings.search.model_copy(update={"hosts": hosts}) if hosts else settings.search
    return search_client.connect(search, pool_size=pool_size)


def open_direct(
    settings: Settings, models: Models, mode: Mode, filters: Sequence[str] = (), *, with_source: bool, reason: bool
) -> DirectRetriever:
    """Return what answers queries on the configured index; see ``lrem_os.api.open_retriever``."""
    if reason and not models.given:
        check_reasoner(settings.model, settings.reasoning)  # quick, so before anything is connected or loaded
    client = connect(settings)
    info = search_client.server_info(client)
    state = indices.require_index(client, settings.index.name)
    embedder = models.embedder if mode != "bm25" else None
    if embedder is not None:
        indices.check_fingerprint(state, indices.index_identity(embedder.identity, settings.catalog.embed))
    reasoner = None if not reason else models.reasoner if mode == "bm25" else models.reasoning_embedder
    return build_retriever(
        client,
        info,
        embedder,
        catalog=settings.catalog,
        index=settings.index,
        search=settings.search,
        mode=mode,
        filters=filters,
        with_source=with_source,
        reasoner=reasoner,
        reasoning=settings.reasoning,
    )


class ServedRuns:
    """Opens the runs of one evaluation.

    Args:
        settings: The configuration.
        embedder: Used in place of the configured model; one that can reason, in place of the reasoner too.
        kept: JSONL where reasonings are kept over evaluations; ``None``: nowhere.
        on_progress: Told how far the probe of a router is, which comes before a routed run's first answer.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        embedder: Embedder | None = None,
        kept: Path | None = None,
        on_progress: Progress | None = None,
    ) -> None:
        self._settings, self._embedder, self._kept_path = settings, embedder, kept
        self._on_progress = on_progress or (lambda _what, _done, _total: None)
        self._models: dict[str, Models] = {}
        self._readings: dict[str, Readings] = {}

    def check(self, run: Run) -> None:
        """Raise for what can be wrong with a run before anything is connected or loaded.

        Raises:
            CheckpointError: The gate of the router cannot be used.
            ConfigError: It needs a reasoner and none is configured, or its settings cannot be used.
            QueryError: It is deeper than its mode ranks, or routed in a mode that has no vectors.
        """
        if run.path:
            return
        settings = self.settings_of(run)
        mode = run.mode or settings.search.mode
        if not run.url and (run.reason or run.routed) and not self._models_of(settings).given:
            try:
                check_reasoner(settings.model, settings.reasoning)
            except ConfigError as exc:
                raise ConfigError(f"run {run.name!r}: {exc}", hint=exc.hint) from exc
        if run.routed:
            if mode == "bm25":
                raise QueryError(
                    f"run {run.name!r}: the router reads vectors, and the mode is bm25",
                    hint="set search.mode to hybrid, or name bm25+reason",
                )
            build_scorer(settings.route)
        if mode != "bm25" and settings.eval.top_k > settings.search.candidates:
            raise QueryError(
                f"run {run.name!r}: {settings.eval.top_k} hits are asked for (eval.top_k, -n), and mode {mode} ranks"
                f" {settings.search.candidates} (search.candidates)",
                hint=f"--set search.candidates={settings.eval.top_k}, or ask for fewer",
            )

    def settings_of(self, run: Run) -> Settings:
        """Return the configuration as a run has it. Raises ``ConfigError``."""
        changes: dict[str, Any] = {}
        try:
            for part, written in (("search", run.search), ("reasoning", run.reasoning)):
                if written:
                    where = f"eval.runs.{run.name}.{part}"
                    changes[part] = with_overrides(getattr(self._settings, part), written, where)
        except ValueError as exc:
            raise ConfigError(str(exc)) from exc
        return self._settings.model_copy(update=changes) if changes else self._settings

    def open(self, run: Run, queries: Sequence[Query]) -> Retriever:
        """Return what answers a run.

        Args:
            run: No file.
            queries: All that it will be asked, in their order: a router keeps its budget over them.

        Raises:
            ModelError: A model could not be loaded or run.
            SearchError: The cluster, or the service, cannot be used.
        """
        settings = self.settings_of(run)
        if run.url:
            return self._open_url(run, settings)
        return self._open_local(run, settings, queries)

    def scores(self, queries: Sequence[Query]) -> dict[str, float]:
        """Return the router's score of each query by its id; see ``score_queries``."""
        readings = self._readings_of(self._settings)
        found = score_queries(readings, self._settings.route, [query.text for query in queries])
        return {query.query_id: score for query, score in zip(queries, found, strict=True)}

    def key(self, run: Run, queries: Sequence[Query]) -> dict[str, Any]:
        """Return what the answers of a run depend on, as JSON values."""
        settings = self.settings_of(run)
        mode = run.mode or settings.search.mode
        decides: dict[str, Any] = {
            "mode": mode,
            "search": settings.search.model_dump(mode="json", include=_RANKS[mode] | _kind(settings)),
            "catalog": settings.catalog.model_dump(mode="json"),
            "vector_field": settings.index.vector_field,
        }
        if mode != "bm25" or run.reason:
            decides["model"] = settings.model.model_dump(mode="json", exclude={"api_key"})
        if run.reason or run.routed:
            decides["reasoning"] = settings.reasoning.model_dump(mode="json", exclude=_NO_MATTER)
            decides["precomputed"] = _hash_file(settings.route.precomputed)
            decides["keywords"] = run.mode is not None or settings.serve.keywords
        if run.routed:
            decides["route"] = settings.route.model_dump(mode="json", exclude={"gate", "precomputed"})
            decides["gate"] = hashlib.sha256(read_gate(settings.route.gate)).hexdigest()
            decides["share"] = run.share
            decides["queries"] = _hash([[query.query_id, query.text] for query in queries])
        if run.url:  # a service is configured elsewhere; plain OpenSearch is asked as configured here
            return {"url": without_userinfo(run.url), "index": settings.index.name, "config": _hash(decides)}
        return {"config": _hash(decides), "index": self._index_state}

    def system(self, runs: Sequence[Run]) -> dict[str, Any]:
        """Return what answered, for the run card; nothing when all runs are files, which need no cluster."""
        answered: dict[str, Any] = {run.name: without_userinfo(run.url) for run in runs if run.url}
        local = [run for run in runs if not run.path and not run.url]
        if not local:
            return answered
        state = indices.require_index(connect(self._settings), self._settings.index.name)
        answered |= {"index": state.name} | {name: state.meta.get(name) for name in ("fingerprint", "identity")}
        answered["concurrency"] = self._settings.eval.concurrency
        if any(run.reason or run.routed for run in local):
            settings = self._settings
            answered["reasoning"] = _describe_reasoning(settings.reasoning, self._models_of(settings))
        if any(run.routed for run in local):
            answered["gate"] = self._settings.route.gate
        return answered

    @cached_property
    def _index_state(self) -> dict[str, Any]:
        """Return what changes with whatever is written into the index."""
        client = connect(self._settings)
        state = indices.require_index(client, self._settings.index.name)
        told = {"name": state.name, "fingerprint": state.meta.get("fingerprint")}
        try:
            return told | {"written": indices.write_count(client, state.name)}
        except AccessDenied:  # who may only search can still count
            return told | {"documents": indices.count_documents(client, state.name)}

    def _models_of(self, settings: Settings) -> Models:
        key = _reading_key(settings.reasoning)
        if key not in self._models:
            self._models[key] = Models(settings.model, settings.reasoning, embedder=self._embedder)
        return self._models[key]

    def _readings_of(self, settings: Settings) -> Readings:
        key = _reading_key(settings.reasoning)
        if key not in self._readings:
            models = self._models_of(settings)
            base = open_direct(settings, models, "vector", with_source=False, reason=False)
            self._readings[key] = Readings(
                models,
                settings.reasoning,
                partial(ask_probe, base.client, base.index, base.setup),
                kept=self._kept_path,
                ahead=settings.route.precomputed,
                on_progress=self._on_progress,
            )
        return self._readings[key]

    def _open_local(self, run: Run, settings: Settings, queries: Sequence[Query]) -> Retriever:
        mode = run.mode or settings.search.mode
        base = open_direct(settings, self._models_of(settings), mode, with_source=False, reason=False)
        base = replace(base, concurrency=settings.eval.concurrency)
        if mode == "bm25" and not run.reason:
            return base
        if run.mode is None and not settings.serve.keywords:  # as the service: keywords stay out, and so their weights
            base = replace(base, reasoned=None)
        texts = [query.text for query in queries]
        readings = self._readings_of(settings)
        reader = build_reader(readings, settings.route, texts, reasoned=run.reason, routed=run.routed, share=run.share)
        return replace(base, reader=reader)

    def _open_url(self, run: Run, settings: Settings) -> Retriever:
        """Return what asks a service; where plain OpenSearch answers, what asks it the configured mode directly."""
        ours = {_address(host) for host in settings.search.hosts}
        strangers: dict[str, Any] = {"user": None, "password": None, "token": None}  # get no credentials of ours
        search = settings.search.model_copy(
            update={"hosts": (run.url,), **({} if _address(run.url) in ours else strangers)}
        )
        client = search_client.connect(search, pool_size=settings.eval.concurrency + 2)
        if _is_service(client, run):
            keys = settings.serve.api_keys
            headers = {} if keys is None else {_API_KEY: keys.get_secret_value().split(",")[0].strip()}
            return LiveRetriever(client, settings.index.name, run.name, settings.eval.concurrency, headers)
        there = settings.model_copy(update={"search": search})
        mode = run.mode or there.search.mode
        base = open_direct(there, self._models_of(there), mode, with_source=False, reason=False)
        return replace(base, concurrency=settings.eval.concurrency)


def _is_service(client: OpenSearch, run: Run) -> bool:
    """Return whether ``lrem-os serve`` answers, and not OpenSearch.

    Raises:
        SearchUnavailable: Nothing does.
    """
    try:
        with search_client.translate_errors():
            answer = client.transport.perform_request("GET", "/live")
    except SearchUnavailable as exc:
        raise SearchUnavailable(
            f"run {run.name!r}: {without_userinfo(run.url)} cannot be used: {exc}",
            hint="is the service running? `lrem-os serve`",
        ) from exc
    except SearchError:  # OpenSearch knows no /live, or wants credentials first: its own answer is clearer
        return False
    return isinstance(answer, Mapping) and "embedder" in answer


def _kind(settings: Settings) -> set[str]:
    """Return the key that says which server it is, where it is not the usual one: what was kept before stays valid."""
    return set() if settings.search.engine == "opensearch" else {"engine"}


def _describe_reasoning(reasoning: ReasoningSettings, models: Models) -> dict[str, Any]:
    used = {"combine", "weighting", "query_weight", "text_boost", "weights"}
    told = reasoning.model_dump(mode="json", include=used)
    if reasoning.combine == "text":
        told["combine_template"] = COMBINE_TEMPLATE_VERSION
    return told | {"reasoner": dict(models.reasoner.identity)}


def _reading_key(reasoning: ReasoningSettings) -> str:
    return _hash(reasoning.model_dump(mode="json", exclude=_AFTER_READING | _NO_MATTER))


def _hash(value: Any) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _hash_file(path: Path | None) -> str | None:
    """Return the SHA-256 of a file's bytes; ``None`` where none is named, or it cannot be read, which is told later."""
    try:
        return None if path is None else hashlib.sha256(path.expanduser().read_bytes()).hexdigest()
    except OSError:
        return None


def _address(url: str) -> tuple[str | None, int | None]:
    parts = urlsplit(url)
    return parts.hostname, parts.port
