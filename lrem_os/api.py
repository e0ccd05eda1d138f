"""The parts put together: what the command line calls, and Python users too.

Every function takes the whole ``Settings`` and hands each part its section. Nothing here decides anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opensearchpy import OpenSearch

from lrem_os.config import LoadedSettings, Settings
from lrem_os.errors import ConfigError, RequestRejected
from lrem_os.ingest.recording import record_ingest
from lrem_os.ingest.report import IngestReport, Tally
from lrem_os.ingest.run import IngestOptions
from lrem_os.ingest.run import ingest as run_ingest
from lrem_os.model.load import Models, check_reasoner, load_embedder
from lrem_os.node.cluster import local_hosts
from lrem_os.query_plugin.engine.engine import QueryEngine
from lrem_os.query_plugin.engine.several import Engines
from lrem_os.query_plugin.engine.shared import SharedIndex
from lrem_os.query_plugin.retriever import DirectRetriever
from lrem_os.query_plugin.routing.precomputed import read_precomputed, reading_fingerprint
from lrem_os.query_plugin.routing.probe import PinnedProbe
from lrem_os.query_plugin.routing.router import build_router
from lrem_os.query_plugin.served import ServedRuns, open_direct
from lrem_os.query_plugin.served import connect as connect
from lrem_os.search import client as search_client
from lrem_os.search import index as indices
from lrem_os.search.dialect import only_opensearch
from lrem_os.search.pages import read_pages
from lrem_os.types import Embedder, Mode, Ranking, Reasoning

if TYPE_CHECKING:
    from lrem_os.eval.files import Source
    from lrem_os.eval.logs import Pages
    from lrem_os.eval.result import EvalResult


_BESIDE_SEARCHES = 16  # connections for /ready, behaviour records, and /: a busy service is still ready
_PROBE_TIMEOUT_S = 2.0  # one that is lost must not hold up those behind it; a request waits far shorter


def ingest_catalog(
    settings: Settings,
    files: Sequence[str],
    options: IngestOptions | None = None,
    *,
    embedder: Embedder | None = None,
    on_progress: Callable[[Tally], None] = lambda _tally: None,
) -> IngestReport:
    """Load catalog files; return the account of every row, which Dashboards shows where it is set up.

    Args:
        settings: The configuration.
        files: Paths, globs, ``-`` for standard input.
        options: Recreate, sync, dry run.
        embedder: Used in place of the configured model, which the engine ``ray`` loads on its nodes.
        on_progress: Called with the running counters, from several threads.
    """
    options = options or IngestOptions()
    if options.dry_run:
        return run_ingest(None, settings, None, files, options, on_progress=on_progress)
    client = connect(settings)
    search_client.server_info(client)  # an unreachable or unsuitable server is told before the model is loaded
    if embedder is None and settings.ingest.engine == "local":
        embedder = load_embedder(settings.model)
    report = run_ingest(client, settings, embedder, files, options, on_progress=on_progress)
    record_ingest(client, report, settings.index.vector_field)
    return report


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
            "building": state.is_building and not state.built,
            "built": state.is_building and bool(state.built),
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


def open_retriever(
    settings: Settings,
    mode: Mode | None = None,
    *,
    filters: Sequence[str] = (),
    with_source: bool = True,
    reason: bool = False,
    embedder: Embedder | None = None,
) -> DirectRetriever:
    """Return what answers queries on the configured index.

    An embedder is loaded only where the mode needs one; a reasoner only with ``reason``, and, unless the two are one
    model, at the first query.

    Args:
        settings: The configuration.
        mode: In place of ``search.mode``.
        filters: Expressions that every hit must match (``brand=Sony``, ``price<50``).
        with_source: Whether hits bring their stored fields.
        reason: Whether every query is reasoned about first: keywords in the text leg, and in the query's vector.
        embedder: Used in place of the configured model; one that can reason, in place of the reasoner too.

    Raises:
        ConfigError: A reasoner is wanted and none is configured.
        IndexMissing: Nothing has been ingested.
        IndexMismatch: The index was built by another model.
    """
    models = Models(settings.model, settings.reasoning, embedder=embedder)
    return open_direct(settings, models, mode or settings.search.mode, filters, with_source=with_source, reason=reason)


def open_engine(settings: Settings, *, embedder: Embedder | None = None) -> QueryEngine:
    """Return what reads queries for the service; embedder and reasoner are loaded now, but have not run yet.

    Without a reasoner (``reasoning.name`` names none and the model brings none) every query goes direct.

    Args:
        settings: The configuration.
        embedder: Used in place of the configured model; one that can reason, in place of the reasoner too.

    Raises:
        CheckpointError: The model or the gate of the router is damaged.
        ConfigError: A model cannot be used, or ``serve.reason_limit_s`` would cut its reasoner off.
        DatasetError: The file of precomputed queries cannot be read.
        IndexMissing: Nothing has been ingested.
        IndexMismatch: The index was built by another model.
        ModelError: A model could not be fetched or loaded.
    """
    models = Models(settings.model, settings.reasoning, embedder=embedder)
    _check_limits(settings, models)
    return _engine(settings, models, open_direct(settings, models, "vector", with_source=False, reason=False))


def open_engines(settings: Settings, *, embedder: Embedder | None = None) -> Engines[QueryEngine]:
    """Return an engine for the configured model, and one for each of ``serve.models``.

    The index may hold vectors of any of them. Raises as ``open_engine`` does.
    """
    each = [(settings, Models(settings.model, settings.reasoning, embedder=embedder))]
    for other in settings.other_models().values():
        # what was reasoned ahead of time is the configured model's
        route = other.route.model_copy(update={"precomputed": None})
        each.append((other.model_copy(update={"route": route}), Models(other.model, other.reasoning)))
    for one, models in each:
        _check_limits(one, models)
    state = indices.require_index(connect(settings), settings.index.name)
    known = {indices.model_fingerprint(models.embedder.identity): (one, models) for one, models in reversed(each)}
    live, of_live = known.get(state.model, each[0])
    direct = open_direct(live, of_live, "vector", with_source=False, reason=False)  # refuses a model that is unknown
    configured = indices.model_fingerprint(each[0][1].embedder.identity)
    return Engines({key: _engine(one, models, direct) for key, (one, models) in known.items()}, configured)


def _check_limits(settings: Settings, models: Models) -> None:
    reasons = models.given or _has_reasoner(settings)
    if reasons and settings.serve.reason_limit_s <= settings.reasoning.timeout_s:
        raise ConfigError(
            f"serve.reason_limit_s is {settings.serve.reason_limit_s:g} and reasoning.timeout_s is"
            f" {settings.reasoning.timeout_s:g}: a batch that is merely slow would count as hung",
            hint="make serve.reason_limit_s the larger one",
        )


def _engine(settings: Settings, models: Models, direct: DirectRetriever) -> QueryEngine:
    if not models.given and not _has_reasoner(settings):
        return QueryEngine(models.embedder, settings.serve, endpoints=lambda: models.endpoints)
    reasoner = models.reasoning_embedder
    fingerprint = reading_fingerprint(reasoner.identity, models.reasoner.identity, settings.reasoning)
    file = settings.route.precomputed
    model = indices.model_fingerprint(models.embedder.identity)
    return QueryEngine(
        models.embedder,
        settings.serve,
        reasoner=reasoner,
        router=build_router(settings.route),
        probe=PinnedProbe(direct.client, direct.index, direct.setup, model, timeout_s=_PROBE_TIMEOUT_S),
        shared=_shared_index(settings, direct.client, fingerprint, reasoner.dimension),
        ahead=None if file is None else read_precomputed(file, fingerprint=fingerprint, dimension=reasoner.dimension),
        endpoints=lambda: models.endpoints,
    )


def serve(
    settings: Settings,
    *,
    embedder: Embedder | None = None,
    on_listening: Callable[[str], None] = lambda _url: None,
) -> None:
    """Run the HTTP service until SIGTERM or Ctrl-C; see ``open_engines`` for what else it raises.

    Args:
        settings: The configuration.
        embedder: Used in place of the configured model; one that can reason, in place of the reasoner too.
        on_listening: Told the address, when requests are answered.

    Raises:
        ConfigError: The address is taken, or TLS files cannot be used.
        DependencyMissing: The extra ``serve`` is not installed.
        Unsupported: ``search.engine`` is elasticsearch.
    """
    from lrem_os.query_plugin.service.server import run
    from lrem_os.query_plugin.service.upstream import Upstream

    only_opensearch(
        settings.search.engine,
        "`lrem-os serve`",
        why="it answers in OpenSearch's query language (neural, hybrid, search_pipeline)",
        hint="query with `lrem-os search`, or with open_retriever in Python: the same rankings",
    )
    hosts = settings.search.hosts or local_hosts(settings.node)
    engine = open_engines(settings, embedder=embedder)  # says what is wrong where there is no cluster
    upstream = Upstream(
        hosts,
        settings.search,
        timeout_s=settings.serve.timeout_s,
        max_connections=settings.serve.max_requests + _BESIDE_SEARCHES,
    )
    run(engine, upstream, settings, on_listening=on_listening)


def _has_reasoner(settings: Settings) -> bool:
    try:
        check_reasoner(settings.model, settings.reasoning)
    except ConfigError:
        return False
    return True


def _shared_index(settings: Settings, client: OpenSearch, fingerprint: str, dimension: int) -> SharedIndex | None:
    if settings.serve.shared_cache is None:
        return None
    return SharedIndex(
        client,
        settings.serve.shared_cache,
        fingerprint=fingerprint,
        dimension=dimension,
        timeout_s=settings.serve.shared_cache_ms / 1000,
        ttl_s=settings.serve.cache_ttl_s,
    )


def search(
    settings: Settings,
    text: str,
    *,
    filters: Sequence[str] = (),
    top_k: int = 10,
    start: int = 0,
    mode: Mode | None = None,
    explain: bool = False,
    reason: bool = False,
    embedder: Embedder | None = None,
) -> Ranking:
    """Return one page of hits for one query; see ``open_retriever`` for what it raises."""
    retriever = open_retriever(settings, mode, filters=filters, reason=reason, embedder=embedder)
    return retriever.search(text, top_k=top_k, start=start, explain=explain)


def search_body(
    settings: Settings,
    text: str,
    *,
    filters: Sequence[str] = (),
    top_k: int = 10,
    start: int = 0,
    mode: Mode | None = None,
    reason: bool = False,
) -> tuple[str, dict[str, Any]]:
    """Return the index and the body that ``search`` would send."""
    retriever = open_retriever(settings, mode, filters=filters, reason=reason)
    return retriever.index, retriever.body(text, top_k=top_k, start=start)


def reason_about(settings: Settings, queries: Sequence[str]) -> list[tuple[Reasoning, ...]]:
    """Return what the configured reasoner says about queries: per query its samples, in the order given.

    Raises:
        ConfigError: No reasoner is configured.
        ModelError: It could not be fetched, loaded or run.
    """
    return Models(settings.model, settings.reasoning).reasoner.reason(queries)


def ubi_pages(settings: Settings) -> Pages:
    """Return what reads an index of the configured cluster, page by page; it connects when it is first asked."""

    def pages(index: str, query: Mapping[str, Any], fields: list[str], time: str) -> Iterator[list[dict[str, Any]]]:
        return read_pages(connect(settings), index, query, fields=fields, time_field=time)

    return pages


def evaluate(
    settings: Settings,
    *,
    runs: Sequence[str],
    queries: str | Path,
    qrels: str | Path,
    measures: Sequence[str] | None = None,
    min_grade: int = 1,
    baseline: str | None = None,
    violations: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    cutoffs: Sequence[int] = (),
    curve: str | None = None,
    limit: int | None = None,
    save_runs: str | Path | None = None,
    fresh: bool = False,
    embedder: Embedder | None = None,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> EvalResult:
    """Measure runs on judged queries; each is served exactly as ``search``, or the service, serves it.

    Args:
        settings: The configuration.
        runs: Names, files and services, see ``lrem_os.eval.specs.parse_run_spec``.
        queries: File with ids, texts and types, or ``ubi:…`` (a window of User Behavior Insights).
        qrels: File with judgments.
        measures: Names such as ``ndcg@10``; none: the usual ones.
        min_grade: From which grade on a product is relevant.
        baseline: Run that the others are compared with.
        violations: File with the documents that break a query's exclusion: ``violation@k`` is measured too.
        columns: What the two files call their columns, where it is none of the usual.
        cutoffs: In place of the measures, the standard ones at these depths.
        curve: Measure of the cost-quality curve between ``direct`` and ``reasoned``; none: no curve.
        limit: Take the first queries only, so many.
        save_runs: Folder for what is retrieved, with traces; an evaluation that was killed goes on from there.
        fresh: Ask again for what is there.
        embedder: Used in place of the configured model; one that can reason, in place of the reasoner too.
        on_progress: Told run, queries done, queries in all.

    Raises:
        ConfigError: A run needs a reasoner and none is configured, or its settings cannot be used.
        InputError: Queries, judgments or a run cannot be used.
        SearchError: OpenSearch failed.
    """
    from lrem_os.eval.files import DEFAULT_MEASURES, evaluate_files

    deepest = max(settings.eval.top_k, *cutoffs, 1)
    deep = settings.model_copy(update={"eval": settings.eval.model_copy(update={"top_k": deepest})})
    kept = None if save_runs is None else Path(save_runs) / "reasonings.jsonl"
    served = ServedRuns(deep, embedder=embedder, kept=kept, on_progress=on_progress)
    source = _run_source(settings, served, runs)
    return evaluate_files(
        runs,
        source,
        queries=queries,
        qrels=qrels,
        settings=settings.eval,
        measures=DEFAULT_MEASURES if measures is None else measures,
        min_grade=min_grade,
        baseline=baseline,
        violations=violations,
        columns=columns,
        cutoffs=cutoffs,
        curve=curve,
        limit=limit,
        save_runs=save_runs,
        fresh=fresh,
        on_progress=on_progress,
    )


def _run_source(settings: Settings, served: ServedRuns, runs: Sequence[str]) -> Source:
    """Return where the runs come from that are in no file; what can be wrong with one is raised now."""
    from lrem_os.eval.files import Source
    from lrem_os.eval.specs import parse_run_specs

    specs = parse_run_specs(runs, settings.eval.runs)
    for spec in specs:
        served.check(spec)
    return Source(
        open=served.open,
        key=served.key,
        scores=served.scores if any(spec.is_local for spec in specs) else None,
        system=partial(served.system, specs),
        config_hash=LoadedSettings(settings, {}, None).settings_hash,
        pages=ubi_pages(settings),
    )
