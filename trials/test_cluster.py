"""Three real nodes, and three services before them: one is killed, all are restarted in turn, and nothing is lost.

``python -m benchmarks.cluster`` runs the same with a larger catalog, and keeps what is printed at the end.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from lrem_os import api
from lrem_os.config import NodeSettings, Settings
from lrem_os.errors import LremError, SearchUnavailable
from lrem_os.node import cluster, local
from lrem_os.node.local import RunningNode
from tests.fakes.balancer import balanced, find_haproxy
from tests.fakes.load import Load, Shot, statuses, told
from tests.fakes.ports import quiet_port
from tests.fakes.serving import Service, wait_until

pytestmark = [pytest.mark.opensearch, pytest.mark.slow, pytest.mark.timeout(5400)]

NUM_PRODUCTS = int(os.environ.get("LREM_OS_CLUSTER_PRODUCTS", "600"))
RATE, AT_ONCE = (
    2.0,
    8,
)  # few: nodes that start need the processor too; a slow machine gets fewer requests, not a queue of them
PATIENCE_S = 1800.0  # a dead man's
MODELS = {"model": {"name": "fake:32"}, "reasoning": {"name": "fake:", "timeout_s": 5.0}}


@dataclass
class Row:
    """What became of everything during one event."""

    event: str
    seconds: float
    requests: int
    statuses: dict[str, int]
    slowest_s: float
    degraded: dict[str, int]
    partial: int
    direct_searches: int = 0
    direct_partial: int = 0
    indexed: int = 0
    notes: list[str] = field(default_factory=list)


ROWS: list[Row] = []
STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(scope="module", autouse=True)
def table() -> Iterator[None]:
    """Show at the end what became of the requests; ``LREM_OS_CLUSTER`` names a file that keeps it."""
    ROWS.clear()
    yield
    if path := os.environ.get("LREM_OS_CLUSTER"):
        Path(path).write_text(json.dumps([asdict(row) for row in ROWS], indent=1) + "\n")
    for row in ROWS:
        print(row)


@dataclass
class Trio:
    """Three nodes, and a shop on them."""

    settings: NodeSettings
    nodes: Sequence[RunningNode]
    folder: Path
    index: str = "shop"

    @property
    def hosts(self) -> list[str]:
        return [node.url for node in self.nodes]

    def values(self, **serve: Any) -> dict[str, Any]:
        """Return a configuration of ``lrem-os`` for this cluster."""
        return {
            **MODELS,
            "search": {"hosts": self.hosts, "timeout_s": 30},
            "index": {"name": self.index, "replicas": 1, "shards": 3},
            "ingest": {"bulk_docs": 4, "window": 100, "senders": 1},  # so that it lasts
            "route": {"budget": "fixed", "threshold": 0.0},
            "serve": {
                **{"port": 0, "timeout_s": 60.0, "shared_cache": "shop-cache", "shared_cache_ms": 20_000.0},
                **{"embed_deadline_ms": 20_000.0, "probe_deadline_ms": 20_000.0, "reason_deadline_ms": 20_000.0},
                **serve,
            },
        }

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Return the first node's answer that is one, from whichever node."""
        for host in self.hosts:
            try:
                answer = httpx.request(method, host + path, timeout=60, trust_env=False, **options)
            except httpx.HTTPError:
                continue
            if answer.status_code < 500:
                return answer.raise_for_status().json()
        raise AssertionError(f"no node answers {path}")

    def manager(self) -> RunningNode:
        [row] = self.ask("GET", "/_cat/cluster_manager?format=json")
        return next(node for node in self.nodes if node.name == row["node"])

    def kill(self, node: RunningNode) -> None:
        """Kill it as the system does."""
        process = psutil.Process(node.pid)
        process.kill()
        wait_until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE, "it is dead")

    def mend(self) -> None:
        """Start what is missing, and wait until every shard has its copies."""
        self.nodes = cluster.start_nodes(self.settings)
        self.wait_for_copies()

    def wait_for_copies(self) -> None:
        """Wait until every shard has all its copies."""
        wait_until(lambda: self.ask("GET", "/_cluster/health")["status"] == "green", "all copies", seconds=PATIENCE_S)

    def check(self, catalog: dict[str, str]) -> None:
        """Compare each copy of the index with the catalog, product by product."""
        self.ask("POST", f"/{self.index}/_refresh")
        for preference in ("_primary", "_replica"):
            found: dict[str, str] = {}
            answer = self.ask(
                "POST",
                f"/{self.index}/_search?scroll=2m&preference={preference}",
                json={"size": 5000, "_source": ["title"], "sort": ["_doc"]},
            )
            while answer["hits"]["hits"]:
                assert answer["_shards"]["failed"] == 0
                found |= {hit["_id"]: hit["_source"]["title"] for hit in answer["hits"]["hits"]}
                next_page = {"scroll": "2m", "scroll_id": answer["_scroll_id"]}
                answer = self.ask("POST", "/_search/scroll", json=next_page)
            assert found == catalog, f"{preference}: {len(found)} of {len(catalog)}"


@pytest.fixture(scope="module")
def trio(node_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    settings = NodeSettings(name=f"trio-{os.getpid()}", port=quiet_port(), heap_mb=384, nodes=3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LREM_OS_HOME", str(node_cache))
        for module in (local, cluster):
            patch.setattr(module, "START_S", PATIENCE_S)
        try:
            nodes = cluster.start_nodes(settings, fetch_java=True)
            yield Trio(settings, nodes, tmp_path_factory.mktemp("trio"))
        finally:
            for process in STARTED:
                process.kill()
                process.communicate()
            cluster.reset_nodes(settings)


def catalog_of(version: int) -> dict[str, str]:
    """Return a title for each product, another one in each version."""
    things = ("bag", "mat", "lamp", "chair", "shelf")
    return {f"p{at}": f"{things[at % 5]} number {at}, edition {version}" for at in range(NUM_PRODUCTS)}


class Ingest:
    """``lrem-os ingest`` as a process."""

    def __init__(self, trio: Trio) -> None:
        self.trio, self.config = trio, trio.folder / "ingest.yaml"
        self.config.write_text(json.dumps(trio.values()))
        self.process: subprocess.Popen[str] | None = None

    def start(self, version: int, *args: str) -> None:
        path = self.trio.folder / f"catalog-{version}.jsonl"
        rows = ({"id": doc_id, "title": title} for doc_id, title in catalog_of(version).items())
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        command = [sys.executable, "-m", "lrem_os", "ingest", str(path), "-c", str(self.config), "--json", *args]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, cwd=self.trio.folder, stdout=pipe, stderr=pipe, text=True)
        STARTED.append(self.process)

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let it stand still inside, whatever it is doing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def written(self, name: str) -> int:
        """Return how many products were written into an index so far; it may not be there yet."""
        rows = self.trio.ask("GET", f"/_cat/indices/{name}*?format=json&h=index,pri.indexing.index_total")
        counts = {row["index"]: row["pri.indexing.index_total"] for row in rows}
        return int(counts.get(name) or 0)

    def finish(self) -> dict[str, Any]:
        """Wait for its end; return its report."""
        assert self.process is not None
        out, err = self.process.communicate(timeout=PATIENCE_S)
        assert self.process.returncode == 0, err
        report: dict[str, Any] = json.loads(out)
        assert report["adds_up"]
        assert (report["failed"], report["indexed"] + report["unchanged"]) == (0, NUM_PRODUCTS)
        return report


class DirectSearches:
    """``lrem_os.search`` again and again, from a thread: a client with all hosts, and no service between.

    ``partial`` holds those that it raised since hits of a shard were missing.
    """

    def __init__(self, settings: Settings) -> None:
        self.count, self.errors, self.partial = 0, list[str](), list[str]()
        self._retriever = api.open_retriever(settings, "bm25")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> DirectSearches:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(120)

    def _run(self) -> None:
        while not self._stop.wait(0.5):
            try:
                ranking = self._retriever.search(f"number {self.count}", top_k=3)
                if len(ranking.hits) < 3:
                    self.errors.append(f"{len(ranking.hits)} hits")
            except SearchUnavailable as exc:
                (self.partial if "shards failed" in exc.message else self.errors).append(str(exc))
            except LremError as exc:
                self.errors.append(str(exc))
            self.count += 1


def assert_all_answered(shots: Sequence[Shot], sent: int, *, gone: int = 0, whole_since: float = 0.0) -> None:
    """Every request had an answer, with hits of all shards.

    Args:
        shots: The requests.
        sent: How many were sent.
        gone: How many nodes went. A search that such a node was answering may lack its shards' hits, and says so.
        whole_since: Who came after that lacks none: by then no node was going.
    """
    assert len(shots) == sent
    assert [(shot.status, shot.error, shot.told) for shot in shots if shot.status != 200] == []
    assert [shot.number for shot in shots if not shot.failed_shards and shot.num_hits < 3] == []
    lacking = [shot for shot in shots if shot.failed_shards]
    assert len(lacking) <= gone * AT_ONCE
    assert [shot.number for shot in lacking if shot.began > whole_since] == []


def note(event: str, shots: Sequence[Shot], began: float, direct: DirectSearches | None = None, **more: Any) -> None:
    """Keep what became of the requests."""
    seconds, slowest = round(time.monotonic() - began, 1), round(max(shot.seconds for shot in shots), 2)
    lacking = sum(shot.failed_shards > 0 for shot in shots)
    if direct is not None:
        more |= {"direct_searches": direct.count, "direct_partial": len(direct.partial)}
    ROWS.append(Row(event, seconds, len(shots), dict(statuses(shots)), slowest, dict(told(shots)), lacking, **more))


def wait_for_more(load: Load, num: int, what: str) -> None:
    """Wait until so many requests more have been answered."""
    goal = len(load.shots) + num
    load.wait(lambda shots: len(shots) >= goal, what, seconds=PATIENCE_S)


def test_the_manager_is_killed_while_a_new_version_is_loaded_and_searched_beside(trio: Trio) -> None:
    ingest = Ingest(trio)
    ingest.start(1)
    assert ingest.finish()["indexed"] == NUM_PRODUCTS
    trio.check(catalog_of(1))
    settings = Settings.model_validate(trio.values())
    with (
        Service(trio.folder, "serve", trio.values()) as service,
        DirectSearches(settings) as direct,
        Load(service.url, trio.index, rate=RATE, name="kill", kinds=("q",), at_once=AT_ONCE) as load,
    ):
        wait_for_more(load, 10, "searches are answered")
        began = time.monotonic()
        ingest.start(2, "--recreate")
        wait_until(lambda: ingest.written("shop-v2") >= NUM_PRODUCTS / 5, "a fifth is loaded", seconds=PATIENCE_S)
        with ingest.held():
            trio.wait_for_copies()  # else the only copy of a shard could die
            victim, killed_at, loaded = trio.manager(), len(load.shots), ingest.written("shop-v2")
        assert loaded < NUM_PRODUCTS, "too quick: it was over before a node was killed"
        trio.kill(victim)
        killed = time.monotonic()
        report = ingest.finish()
        wait_for_more(load, 20, "searches are answered by two nodes")
        trio.mend()
        wait_for_more(load, 10, "searches are answered by three nodes")
        load.stop()
    notes = [f"{loaded} of {NUM_PRODUCTS} products were written when the manager was killed"]
    event = "manager killed during ingest --recreate and search"
    note(event, load.shots, began, direct, indexed=report["indexed"], notes=notes)
    assert len(load.shots) >= killed_at + 20
    assert_all_answered(load.shots, load.num_sent, gone=1, whole_since=killed)
    assert direct.errors == []
    assert len(direct.partial) <= 1
    assert direct.count > 5
    assert (report["index"], report["published"]) == ("shop-v2", True)
    trio.check(catalog_of(2))


def test_all_nodes_are_restarted_in_turn_while_the_shop_is_searched_and_changed(trio: Trio) -> None:
    ingest = Ingest(trio)
    settings = Settings.model_validate(trio.values())
    if not trio.ask("GET", "/_cat/indices/shop-v*?format=json"):
        ingest.start(1)
        ingest.finish()
    trio.wait_for_copies()
    before, version, indexed = trio.nodes, 10, 0
    with (
        Service(trio.folder, "serve", trio.values()) as service,
        DirectSearches(settings) as direct,
        Load(service.url, trio.index, rate=RATE, name="restart", kinds=("q",), at_once=AT_ONCE) as load,
    ):
        wait_for_more(load, 10, "searches are answered")
        began = time.monotonic()
        restarted: list[Sequence[RunningNode]] = []
        restart = partial(cluster.restart_nodes, trio.settings)
        restarting = threading.Thread(target=lambda: restarted.append(restart()), daemon=True)
        restarting.start()
        while restarting.is_alive():
            version += 1
            ingest.start(version)
            indexed += ingest.finish()["indexed"]
            restarting.join(5)  # on two cores the nodes that start need some of them
        restarted_at = time.monotonic()
        wait_for_more(load, 10, "searches are answered")
        load.stop()
    notes = [f"the whole catalog was written {version - 10} times meanwhile"]
    event = "rolling restart of three nodes during ingest and search"
    note(event, load.shots, began, direct, indexed=indexed, notes=notes)
    assert restarted, "the restart failed"
    trio.nodes = restarted[0]
    assert {node.name for node in trio.nodes} == {node.name for node in before}
    assert {node.pid for node in trio.nodes}.isdisjoint({node.pid for node in before})
    assert_all_answered(load.shots, load.num_sent, gone=3, whole_since=restarted_at)
    assert direct.errors == []
    assert len(direct.partial) <= 3
    assert indexed == NUM_PRODUCTS * (version - 10)
    trio.check(catalog_of(version))


@pytest.mark.parametrize("balancer", ["the tests' own", "HAProxy"])
def test_a_service_is_killed_and_all_are_restarted_behind_a_balancer(trio: Trio, balancer: str) -> None:
    haproxy = find_haproxy() if balancer == "HAProxy" else None
    if balancer == "HAProxy" and haproxy is None:
        pytest.skip("HAProxy is not installed")
    ingest = Ingest(trio)
    if not trio.ask("GET", "/_cat/indices/shop-v*?format=json"):
        ingest.start(1)
        ingest.finish()
    names = ("one", "two", "three")
    with ExitStack() as stack:
        ports = {name: quiet_port() for name in names}
        services = {
            name: stack.enter_context(Service(trio.folder, name, trio.values(port=ports[name]))) for name in names
        }
        front = stack.enter_context(balanced([service.url for service in services.values()], haproxy))
        with Load(front, trio.index, rate=RATE, name="replicas", kinds=("q",), at_once=AT_ONCE) as load:
            wait_for_more(load, 9, "searches are answered by three services")
            began = time.monotonic()
            services["one"].kill()
            wait_for_more(load, 15, "searches are answered by two services")
            services["one"].start(b"lrem-os serves")
            for name in ("two", "three"):  # a new release, one after the other
                services[name].terminate()
                assert services[name].end() == 0
                services[name].start(b"lrem-os serves")
                wait_for_more(load, 6, "searches are answered")
            load.stop()
        notes = [f"balancer: {balancer}"]
        note("one of three services killed, the others restarted", load.shots, began, notes=notes)
        assert_all_answered(load.shots, load.num_sent)
        wait_for_a_shared_thought(list(services.values()), f"which shelf holds the most books before {balancer}")


def wait_for_a_shared_thought(services: Sequence[Service], text: str) -> None:
    """Ask until the others find what the first one reasoned about: the cache may be late, by design, and is then left.

    Args:
        services: At least two.
        text: To ask; numbered, since each service remembers its own.
    """
    numbers = count()

    def is_shared() -> bool:
        question = {"text": f"{text}, part {next(numbers)}", "route": "reasoned"}
        written, found = num_settled(services[0]), [num_found(service) for service in services]
        for service in services:
            assert service.client.post("/v1/route", json=question).raise_for_status().json()["route"] == "reasoned"
            wait_until(lambda: num_settled(services[0]) > written, "a thought is written or given up")
        return all(num_found(service) > before for service, before in zip(services[1:], found[1:], strict=True))

    wait_until(is_shared, "a thought is shared", seconds=PATIENCE_S)


def num_settled(service: Service) -> float:
    """Return how many thoughts a service wrote into the shared cache, or gave up."""
    return sum(service.count(f"engine[shared_{name}]") for name in ("written", "dropped", "write_failed"))


def num_found(service: Service) -> float:
    """Return how many thoughts a service found in the shared cache."""
    return service.count("engine[shared_found]")
