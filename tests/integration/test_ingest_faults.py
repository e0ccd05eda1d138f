"""On a real node: the process killed, the node restarted; afterwards the index is the catalog, document by document."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrem_os.config import CatalogSettings, NodeSettings, SearchSettings
from lrem_os.model.fake import FakeEmbedder
from lrem_os.search import index as indices
from lrem_os.search.client import connect
from lrem_os.text import content_hash, embedded_text
from tests.fakes.ports import quiet_port
from tests.fakes.shop import Shop

pytestmark = [pytest.mark.opensearch, pytest.mark.slow]

DIMENSION = 32
NUM_PRODUCTS = 4000
NUM_KILLS = 20
BAD = ({}, {"title": ""}, {"title": 5}, {"title": "x", "price": "12 EUR"}, {"title": "x", "attributes": "red"})


@dataclass
class Catalog:
    """A catalog file that changes, with duplicates and bad rows in it, and what the index must hold for it."""

    path: Path
    seed: int
    products: dict[str, dict[str, Any]] = field(default_factory=dict)
    num_versions: int = 0

    def change(self) -> None:
        """Write the next version: a third of the products changed, a few gone, a few new."""
        rng = random.Random(f"{self.seed} {self.num_versions}")
        self.num_versions += 1
        if not self.products:
            self.products = {f"p{number}": product(rng, f"p{number}") for number in range(NUM_PRODUCTS)}
        for doc_id in rng.sample(sorted(self.products), NUM_PRODUCTS // 3):
            self.products[doc_id] = product(rng, doc_id)
        for doc_id in rng.sample(sorted(self.products), 20):
            del self.products[doc_id]
        for number in range(20):
            doc_id = f"p{self.num_versions}-{number}"
            self.products[doc_id] = product(rng, doc_id)
        self.path.write_bytes(b"\n".join(self._lines(rng)) + b"\n")

    def _lines(self, rng: random.Random) -> Iterator[bytes]:
        for doc_id, row in self.products.items():
            if rng.random() < 0.05:  # replaced by the row after it
                yield json.dumps(row | {"title": "superseded"}).encode()
            yield json.dumps(row, ensure_ascii=False).encode()
            if rng.random() < 0.01:
                yield json.dumps({"id": doc_id, **rng.choice(BAD)}).encode()

    def documents(self) -> dict[str, dict[str, Any]]:
        """Return what the index must hold, with vector and hash."""
        embed, embedder, documents = CatalogSettings().embed, FakeEmbedder(DIMENSION), {}
        vectors = embedder.embed_items([embedded_text(row, embed) for row in self.products.values()])
        for (doc_id, row), vector in zip(self.products.items(), vectors, strict=True):
            source = row | {"attributes_text": f"color {row['attributes']['color']}"}
            hashed = content_hash(embedded_text(source, embed), source)
            documents[doc_id] = source | {"lrem_vector": vector.tobytes(), "lrem_hash": hashed}
        return documents


def product(rng: random.Random, doc_id: str) -> dict[str, Any]:
    words = ["bag", "Café", "赤い", "حقيبة", "🎒", "lamp", "chair", "two\u2028lines"]
    return {
        "id": doc_id,
        "title": " ".join(rng.choices(words, k=rng.randint(1, 12))),
        "price": rng.randint(1, 10_000) / 100,
        "attributes": {"color": rng.choice(["red", "blue"])},
    }


@dataclass
class Job:
    """``lrem-os ingest`` as a process, against one index, in small requests so that it lasts."""

    shop: Shop
    catalog: Catalog
    url: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, *args: str, **settings: object) -> subprocess.Popen[bytes]:
        values = {
            "search.hosts": f"[{self.url}]",
            "model.name": f"fake:{DIMENSION}",
            "index.name": self.shop.alias,
            "ingest.window": 200,
            "ingest.bulk_docs": 10,
            "ingest.senders": 1,
        } | settings
        overrides = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "lrem_os", "ingest", str(self.catalog.path), "--json", *args, *overrides]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, cwd=self.shop.folder, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
        self.processes.append(process)
        return process

    def close(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()
        self.shop.client.close()

    def finish(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        """Wait for a run to end as one with a few bad rows does; return its report."""
        out, err = process.communicate(timeout=300)
        assert process.returncode == 7, err.decode()
        assert b"Traceback" not in err
        report: dict[str, Any] = json.loads(out)
        assert report["adds_up"]
        assert report["failures"].keys() == {"bad_row"}
        return report

    def writes(self) -> int:
        """Return how many documents the node has written for this index, of all versions."""
        answer = self.shop.client.indices.stats(index=f"{self.shop.alias}-v*", metric="indexing")
        return int(answer["_all"]["primaries"].get("indexing", {}).get("index_total", 0))

    def wait_for_writes(self, process: subprocess.Popen[bytes]) -> None:
        before = self.writes()
        while process.poll() is None and self.writes() == before:
            time.sleep(0.02)

    def assert_whole(self) -> None:
        """The index is the catalog, and as it is when nothing runs."""
        found = self.shop.documents()
        for document in found.values():
            document["lrem_vector"] = np.array(document["lrem_vector"], dtype=np.float32).tobytes()
        expected = self.catalog.documents()
        assert found.keys() == expected.keys()
        assert [doc_id for doc_id in expected if found[doc_id] != expected[doc_id]] == []
        assert self.shop.live_settings() == {"refresh_interval": "1s", "number_of_replicas": "0"}
        assert not self.shop.state().is_loading


@pytest.fixture
def job(opensearch_url: str, index_name: str, tmp_path: Path) -> Iterator[Job]:
    client = connect(SearchSettings(hosts=(opensearch_url,)))
    job = Job(Shop(client, index_name, tmp_path), Catalog(tmp_path / "catalog.jsonl", seed=7), opensearch_url)
    yield job
    job.close()


def test_killed_at_random_moments(job: Job) -> None:
    """``kill -9`` while it loads, most of the time; now and then while it starts, looks up or ends."""
    rng = random.Random(20)
    kinds = [[], ["--sync"], ["--recreate"]]
    job.catalog.change()
    process = job.start()
    job.wait_for_writes(process)
    begun = time.monotonic()
    job.finish(process)
    changes_s = (time.monotonic() - begun) / 3  # a third of the catalog changes from turn to turn
    temporary = Path(tempfile.gettempdir())
    left_behind = set(temporary.glob("lrem-os-spool-*"))
    killed = killed_while_it_wrote = 0
    for turn in range(3 * NUM_KILLS):
        if turn % 3 == 0:
            job.catalog.change()
        process = job.start(*kinds[turn // 3 % 3])
        if turn % 4:
            job.wait_for_writes(process)
            time.sleep(rng.uniform(0, changes_s / 2))
        else:
            time.sleep(rng.uniform(0, 2.5))
        process.kill()
        _, err = process.communicate()
        assert b"Traceback" not in err
        killed += process.returncode == -signal.SIGKILL
        killed_while_it_wrote += process.returncode == -signal.SIGKILL and turn % 4 != 0
        assert process.returncode in (-signal.SIGKILL, 7), err.decode()
        if killed == NUM_KILLS:
            break
    assert killed == NUM_KILLS
    assert killed_while_it_wrote >= NUM_KILLS / 2
    assert set(temporary.glob("lrem-os-spool-*")) <= left_behind
    job.finish(job.start("--sync"))
    job.assert_whole()
    job.finish(job.start("--recreate"))
    job.assert_whole()
    report = job.finish(job.start("--sync"))
    assert (report["indexed"], report["deleted"]) == (0, 0)


def test_killed_in_the_middle_little_is_done_again(job: Job) -> None:
    job.catalog.change()
    process = job.start()
    job.wait_for_writes(process)
    time.sleep(0.3)
    process.kill()
    process.communicate()
    written, since = job.writes(), time.monotonic()
    while time.monotonic() - since < 2:  # what was on its way arrives
        time.sleep(0.1)
        if (now := job.writes()) != written:
            written, since = now, time.monotonic()
    report = job.finish(job.start())
    assert report["unchanged"] == written > 0
    assert report["indexed"] == len(job.catalog.products) - written
    job.assert_whole()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_restores_the_settings(job: Job, number: signal.Signals, code: int) -> None:
    job.catalog.change()
    process = job.start()
    job.wait_for_writes(process)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"Traceback" not in err
    assert job.shop.live_settings() == {"refresh_interval": "1s", "number_of_replicas": "0"}
    assert not job.shop.state().is_loading
    assert 0 < len(job.shop.rows()) < len(job.catalog.products)
    job.finish(job.start())
    job.assert_whole()


def test_two_processes_at_once(job: Job) -> None:
    job.catalog.change()
    first, second = job.start(), job.start()
    for process in (first, second):
        job.finish(process)
    job.assert_whole()


@pytest.fixture
def own_node(node_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NodeSettings]:
    """A node that may be stopped and killed."""
    from lrem_os.node.local import reset_node, start_node

    monkeypatch.setenv("LREM_OS_HOME", str(node_cache))
    settings = NodeSettings(name=f"faults-{os.getpid()}", port=quiet_port(), heap_mb=512)
    start_node(settings)
    yield settings
    reset_node(settings)


def stop(settings: NodeSettings, *, kill: bool) -> None:
    from lrem_os.node.local import find_node, stop_node

    node = find_node(settings)
    assert node is not None
    if kill:
        os.kill(node.pid, signal.SIGKILL)
        while find_node(settings) is not None:
            time.sleep(0.05)
    else:
        stop_node(settings)


@pytest.mark.timeout(1200)
def test_the_node_restarted_while_it_loads(own_node: NodeSettings, tmp_path: Path) -> None:
    """Stopped in good order and killed, in turn; the ingest waits and goes on, and never says that it failed."""
    from lrem_os.node.local import start_node

    url = f"http://127.0.0.1:{own_node.port}"
    client = connect(SearchSettings(hosts=(url,)))
    job = Job(Shop(client, "restarts", tmp_path), Catalog(tmp_path / "catalog.jsonl", seed=8), url)
    num_interrupted = 0
    with closing(job):
        for turn, kind in enumerate(([], ["--recreate"], ["--sync"], [], ["--recreate"])):
            job.catalog.change()
            process = job.start(*kind)
            job.wait_for_writes(process)
            stop(own_node, kill=turn % 2 == 1)
            num_interrupted += process.poll() is None
            start_node(own_node)
            job.finish(process)
        job.finish(job.start("--sync"))
        job.assert_whole()
    assert num_interrupted >= 3


def test_searches_see_a_whole_index_all_the_while(job: Job) -> None:
    """While a rebuild runs, is killed and runs again, the alias answers with the old catalog, then with the new."""
    job.catalog.change()
    job.finish(job.start())
    old = len(job.catalog.products)
    stop, seen = threading.Event(), set()

    def search() -> None:
        while not stop.is_set():
            seen.add(indices.count_documents(job.shop.client, job.shop.alias))
            time.sleep(0.05)

    searcher = threading.Thread(target=search)
    searcher.start()
    try:
        del job.catalog.products["p1-0"]  # so that the two can be told apart by their number
        job.catalog.change()
        process = job.start("--recreate")
        job.wait_for_writes(process)
        process.kill()
        process.communicate()
        job.finish(job.start("--recreate"))
        deadline = time.monotonic() + 60
        while len(job.catalog.products) not in seen and searcher.is_alive() and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        stop.set()
        searcher.join()
    job.assert_whole()
    assert seen == {old, len(job.catalog.products)}
