"""The guided tour: local node, sample catalog, a few searches, an evaluation. Says what it does as it goes.

Everything it does is a command that the user could have typed; it prints each.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from lrem_os import api
from lrem_os.config import Settings
from lrem_os.eval.result import EvalResult
from lrem_os.ingest.report import IngestReport
from lrem_os.model.load import load_embedder
from lrem_os.node.local import RunningNode, find_node, start_node
from lrem_os.node.progress import OnProgress
from lrem_os.types import Mode, Ranking

INDEX = "lrem-os-demo"
SEARCHES: tuple[tuple[str, Mode], ...] = (
    ("cast iron skillet", "hybrid"),
    ("what do I put under a hot pot", "bm25"),
    ("what do I put under a hot pot", "hybrid"),
)
RUNS: tuple[Mode, ...] = ("bm25", "vector", "hybrid")
MEASURES = ("ndcg@10", "hitrate@10", "precision@10", "recall@100")


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """Paths of the sample catalog and its judged queries."""

    catalog: Path
    queries: Path
    qrels: Path


@dataclass(frozen=True, slots=True)
class Narrator:
    """Where the tour tells what it does.

    Args:
        step: Told the command about to be run, and why.
        searched: Told the answer to a query.
        ingested: Told the account of the ingest.
        evaluated: Told the measures.
        node_progress: Told how the node's start goes on.
    """

    step: Callable[[str, str], None]
    searched: Callable[[Ranking], None]
    ingested: Callable[[IngestReport], None]
    evaluated: Callable[[EvalResult], None]
    node_progress: OnProgress


def sample_files() -> AbstractContextManager[SampleFiles]:
    """Return the sample's files for the length of a ``with`` block; a zipped installation unpacks them."""
    return _SampleFiles()


class _SampleFiles(AbstractContextManager[SampleFiles]):
    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> SampleFiles:
        data = resources.files("lrem_os.demo") / "data"
        names = ("catalog.jsonl", "queries.jsonl", "qrels.txt")
        return SampleFiles(*(self._stack.enter_context(resources.as_file(data / name)) for name in names))

    def __exit__(self, *exc: object) -> None:
        self._stack.close()


def run_tour(settings: Settings, narrator: Narrator, *, fetch_java: bool = False) -> RunningNode | None:
    """Run the tour; return the node it started, ``None`` when it found one or a cluster is configured.

    Raises:
        LremError: A step failed; the message says which and what to do.
    """
    settings = settings.model_copy(update={"index": settings.index.model_copy(update={"name": INDEX})})
    started = _start(settings, narrator, fetch_java)
    with sample_files() as files:
        narrator.step(f"lrem-os ingest {files.catalog.name} -i {INDEX}", "embed the sample catalog and index it")
        embedder = load_embedder(settings.model)
        narrator.ingested(api.ingest_catalog(settings, [str(files.catalog)], embedder=embedder))
        for text, mode in SEARCHES:
            narrator.step(f"lrem-os search {text!r} --mode {mode} -n 3 -i {INDEX}", "ask")
            narrator.searched(api.search(settings, text, mode=mode, top_k=3, embedder=embedder))
        runs = ",".join(RUNS)
        narrator.step(f"lrem-os eval --runs {runs} --queries queries.jsonl --qrels qrels.txt", "measure on 60 queries")
        narrator.evaluated(
            api.evaluate(
                settings, runs=RUNS, queries=files.queries, qrels=files.qrels, measures=MEASURES, embedder=embedder
            )
        )
    return started


def _start(settings: Settings, narrator: Narrator, fetch_java: bool) -> RunningNode | None:
    if settings.search.hosts or find_node(settings.node) is not None:
        return None
    narrator.step("lrem-os node up", "start a local OpenSearch node (the first time it is fetched: about 200 MB)")
    return start_node(settings.node, fetch_java=fetch_java, on_progress=narrator.node_progress)
