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
from lrem_os.eval.evaluate import EvalResult
from lrem_os.ingest.report import IngestReport
from lrem_os.node.local import RunningNode, find_node, start_node
from lrem_os.types import Mode, Ranking

INDEX = "lrem-os-demo"
SEARCHES: tuple[tuple[str, Mode], ...] = (
    ("cast iron skillet", "hybrid"),
    ("what do I put under a hot pot", "bm25"),
    ("what do I put under a hot pot", "hybrid"),
)
RUNS: tuple[Mode, ...] = ("bm25", "vector", "hybrid")


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
        searched: Told a query, its mode and the answer.
        ingested: Told the account of the ingest.
        evaluated: Told the measures.
        node_progress: Told how the node's start goes on.
    """

    step: Callable[[str, str], None]
    searched: Callable[[str, Mode, Ranking], None]
    ingested: Callable[[IngestReport], None]
    evaluated: Callable[[EvalResult], None]
    node_progress: Callable[[str], None]


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


def run_tour(settings: Settings, narrator: Narrator) -> RunningNode | None:
    """Run the tour; return the node it started, ``None`` when it found one or a cluster is configured.

    Raises:
        LremError: A step failed; the message says which and what to do.
    """
    settings = settings.model_copy(update={"index": settings.index.model_copy(update={"name": INDEX})})
    started = _start(settings, narrator)
    with sample_files() as files:
        narrator.step(f"lrem-os ingest {files.catalog.name} -i {INDEX}", "embed the sample catalog and index it")
        narrator.ingested(api.ingest_catalog(settings, [str(files.catalog)]))
        for text, mode in SEARCHES:
            narrator.step(f"lrem-os search {text!r} --mode {mode} -n 3 -i {INDEX}", "ask")
            narrator.searched(text, mode, api.search(settings, text, mode=mode, top_k=3))
        runs = ",".join(RUNS)
        narrator.step(f"lrem-os eval --runs {runs} --queries queries.jsonl --qrels qrels.txt", "measure on 60 queries")
        narrator.evaluated(
            api.evaluate(settings, runs=list(RUNS), queries=str(files.queries), qrels=str(files.qrels))
        )
    return started


def _start(settings: Settings, narrator: Narrator) -> RunningNode | None:
    if settings.search.hosts or find_node(settings.node) is not None:
        return None
    narrator.step("lrem-os node up", "start a local OpenSearch node (the first time it is fetched: about 200 MB)")
    return start_node(settings.node, on_progress=narrator.node_progress)
