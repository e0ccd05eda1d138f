"""The service before a real node while something is broken: every request is answered, and it recovers by itself.

The service is a process that stays the same from fault to fault: no restart helps it. Deadlines are held against what
the service itself measured; a loaded machine may add to them what it likes, within ``ALLOWANCE_S``.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from lrem_os import api
from lrem_os.config import NodeSettings, SearchSettings, Settings
from tests.fakes.load import Load, Shot, statuses, told
from tests.fakes.mind import Mind
from tests.fakes.ports import quiet_port
from tests.fakes.proxy import Fault, FaultyProxy
from tests.fakes.serving import Control, ModelServer, Service, wait_until

pytestmark = [pytest.mark.opensearch, pytest.mark.slow]

ALLOWANCE_S = 10.0  # what a loaded machine may add to a deadline
RATE = 8.0
TIMEOUT_S = 12.0  # of a whole request: a node that stalls for a moment is not what is tested
DEADLINES_MS = {"embed": 1500.0, "route": 1000.0, "reason": 1000.0}
SERVE = {
    "port": 0,
    "ubi": True,
    "timeout_s": TIMEOUT_S,
    "embed_deadline_ms": DEADLINES_MS["embed"],
    "probe_deadline_ms": DEADLINES_MS["route"],
    "reason_deadline_ms": DEADLINES_MS["reason"],
    "shared_cache_ms": 200.0,
    "reason_limit_s": 2.0,
    "embed_limit_s": 2.0,
    "breaker_window": 8,
    "breaker_open_s": 0.5,
}


@dataclass(frozen=True)
class Row:
    """What became of the requests of one fault."""

    fault: str
    requests: int
    statuses: dict[str, int]
    degraded: dict[str, int]
    beyond_ms: float
    recovered_s: float | None


ROWS: list[Row] = []


@pytest.fixture(scope="module", autouse=True)
def table(pytestconfig: pytest.Config) -> Iterator[None]:
    """Show at the end what became of the requests; ``LREM_OS_FAULTS`` names a file that keeps it."""
    ROWS.clear()
    yield
    if path := os.environ.get("LREM_OS_FAULTS"):
        Path(path).write_text(json.dumps([asdict(row) for row in ROWS], indent=1) + "\n")
    for row in ROWS:
        print(row)


@dataclass
class Stack:
    """A service and all that it needs."""

    index: str
    node: httpx.Client
    proxy: FaultyProxy
    service: Service
    settings: Settings


def catalog(folder: Path) -> str:
    rows = [{"id": f"p{at}", "title": f"{thing} number {at}"} for at, thing in enumerate(["bag", "mat", "lamp"] * 4)]
    path = folder / "catalog.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@contextmanager
def serving(
    url: str, folder: Path, sections: dict[str, Any], *, mind: Control | None = None, **serve: Any
) -> Iterator[Stack]:
    """Load a catalog and run the service on it, with a proxy between the two and the node."""
    with ExitStack() as stack:
        proxy = stack.enter_context(FaultyProxy(url))
        node = stack.enter_context(httpx.Client(base_url=url, timeout=120, trust_env=False))
        index = f"test-faults-{uuid.uuid4().hex[:8]}"
        values = {
            "search": {"hosts": [proxy.url], "timeout_s": TIMEOUT_S},
            "index": {"name": index},
            "route": {"budget": "fixed", "threshold": 0.0},  # so that whatever is not reasoned lacks something
            **sections,
            "serve": {**SERVE, "shared_cache": f"{index}-cache", **serve},
        }
        settings = Settings.model_validate(values)
        stack.callback(lambda: node.delete(f"/{index}*,ubi_queries?ignore_unavailable=true"))
        direct = settings.model_copy(update={"search": SearchSettings(hosts=(url,), timeout_s=120)})
        report = api.ingest_catalog(direct, [catalog(folder)], embedder=Mind() if mind is not None else None)
        assert report.indexed == 12
        service = stack.enter_context(Service(folder, index, values, mind=mind))
        yield Stack(index, node, proxy, service, settings)
        proxy.heals()


@contextmanager
def under_load(stack: Stack, fault: str, *, rate: float = RATE, **options: Any) -> Iterator[Load]:
    """Run a fault while searches come; afterwards check what must hold for every fault, and note it."""
    before = stack.service.metrics()
    name = f"{fault.replace(' ', '-')}-{uuid.uuid4().hex[:6]}"
    with Load(stack.service.url, stack.index, rate=rate, name=name, **options) as load:
        load.wait_for_whole()
        yield load
        recovered_s = load.wait_for_whole()
    assert stack.service.is_alive
    check(load.shots, before, stack.service.metrics())
    assert len(load.shots) == load.num_sent
    note(fault, load.shots, recovered_s)


def note(fault: str, shots: Sequence[Shot], recovered_s: float | None) -> None:
    seconds = None if recovered_s is None else round(recovered_s, 2)
    ROWS.append(Row(fault, len(shots), dict(statuses(shots)), dict(told(shots)), round(beyond_ms(shots), 1), seconds))


def beyond_ms(shots: Sequence[Shot]) -> float:
    """Return by how much a deadline was missed at most: of a stage, or of the whole request."""
    late = [0.0]
    for shot in shots:
        late.append(1000 * (shot.seconds - TIMEOUT_S))
        timings = shot.told.get("timings_ms", {})
        late += [timings[stage] - deadline for stage, deadline in DEADLINES_MS.items() if stage in timings]
    return max(late)


def check(shots: Sequence[Shot], before: dict[str, float], after: dict[str, float]) -> None:
    """Check that every request was answered in time and without an error of ours, and that what was lacking counts."""
    assert [shot for shot in shots if shot.status is None] == []
    assert [shot for shot in shots if shot.status not in (200, 429, 503, 504)] == []
    assert beyond_ms(shots) <= 1000 * ALLOWANCE_S
    for shot in shots:
        if shot.status == 200:
            assert tuple(shot.told["degraded"]) == shot.degraded
            assert shot.told["route"] == shot.route
            assert (shot.route == "reasoned") == (not set(shot.degraded) - {"probe_timeout", "probe_failed"})
            assert bool(shot.told["keywords"]) == (shot.route == "reasoned")
        elif "x-lrem-route" not in shot.headers:
            assert "retry-after" in shot.headers or shot.status == 504
    for code, number in told(shots).items():
        counted = after[f"degraded_total[{code}]"] - before.get(f"degraded_total[{code}]", 0)
        # a search that OpenSearch did not answer was read and counted, but has no headers of ours
        assert number <= counted <= number + sum(shot.status != 200 for shot in shots)


def degraded(*codes: str, num: int = 10) -> Callable[[Sequence[Shot]], bool]:
    """Return what tells that so many requests lacked one of these."""
    wanted = set(codes)
    return lambda shots: sum(bool(wanted & set(shot.degraded)) for shot in list(shots)) >= num


def answered(*wanted: int, num: int = 10) -> Callable[[Sequence[Shot]], bool]:
    """Return what tells that so many requests got one of these statuses."""
    return lambda shots: sum(shot.status in wanted for shot in list(shots)) >= num


# -- Models on servers of their own


@dataclass
class Remote:
    """A service whose models are on servers."""

    stack: Stack
    embedder: ModelServer
    reasoner: ModelServer


@pytest.fixture(scope="module")
def remote(opensearch_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    folder = tmp_path_factory.mktemp("remote")
    embedder, reasoner = (ModelServer(folder, name) for name in ("embedder", "reasoner"))
    sections = {
        "model": {"name": "tiny", "backend": "openai", "url": embedder.url},
        "reasoning": {"name": "tiny", "backend": "openai", "url": reasoner.url, "timeout_s": 1.5, "samples": 2},
    }
    try:
        embedder.up()
        reasoner.up()
        with serving(opensearch_url, folder, sections) as stack:
            yield Remote(stack, embedder, reasoner)
        assert "Traceback" not in stack.service.log.read_text()
    finally:
        embedder.kill()
        reasoner.kill()


REASONER_FAULTS = {
    "hang": {"reasoner_timeout", "reasoner_failed", "reasoner_slow", "reasoner_open"},
    "slow": {"reasoner_timeout", "reasoner_slow"},
    **{
        fault: {"reasoner_failed", "reasoner_open"}
        for fault in ("error", "busy", "drop", "html", "utf8", "nothing", "no choices", "no list", "no text", "fewer")
    },
}


def test_the_reasoners_server_is_killed(remote: Remote) -> None:
    with under_load(remote.stack, "reasoner killed") as load:
        remote.reasoner.kill()
        load.wait(degraded("reasoner_open", num=10), "the reasoner is left alone")
        remote.reasoner.up()


@pytest.mark.parametrize("fault", REASONER_FAULTS)
def test_the_reasoners_server_does_badly(remote: Remote, fault: str) -> None:
    with under_load(remote.stack, f"reasoner: {fault}") as load:
        remote.reasoner.control.set(fault)
        load.wait(degraded(*REASONER_FAULTS[fault], num=10), "reasoning is missing")
        remote.reasoner.control.set("")
    assert {shot.status for shot in load.shots} == {200}


def test_the_embedders_server_is_killed(remote: Remote) -> None:
    with under_load(remote.stack, "embedder killed") as load:
        remote.embedder.kill()
        load.wait(degraded("embedder_failed", "embedder_timeout"), "vectors are missing")
        remote.embedder.up()
    assert {shot.status for shot in load.shots} == {200}


EMBEDDER_FAULTS = ("hang", "slow", "error", "busy", "html", "nan", "wrong length", "fewer")


@pytest.mark.parametrize("fault", EMBEDDER_FAULTS)
def test_the_embedders_server_does_badly(remote: Remote, fault: str) -> None:
    with under_load(remote.stack, f"embedder: {fault}") as load:
        remote.embedder.control.set(fault)
        load.wait(lambda shots: sum(bool(shot.degraded) for shot in list(shots)) >= 10, "vectors are missing")
        remote.embedder.control.set("")
    assert {shot.status for shot in load.shots} == {200}


# -- OpenSearch


def test_opensearch_is_slow(remote: Remote) -> None:
    with under_load(remote.stack, "OpenSearch slow") as load:
        remote.stack.proxy.strikes(Fault(delay_s=1.5))
        load.wait(degraded("probe_timeout"), "the router does without its signals")
        remote.stack.proxy.heals()
    assert {shot.status for shot in load.shots} == {200}


@pytest.mark.parametrize(
    ("name", "fault", "status"),
    [
        ("hangs", Fault(hang=True), 504),
        ("answers 429", Fault(429, {"retry-after": "1"}), 429),
        ("answers 503", Fault(503), 503),
        ("breaks off", Fault(drop=True), 503),
    ],
)
def test_opensearch_does_not_answer(remote: Remote, name: str, fault: Fault, status: int) -> None:
    with under_load(remote.stack, f"OpenSearch {name}") as load:
        remote.stack.proxy.strikes(fault)
        load.wait(answered(status), "it is passed on that OpenSearch does not answer")
        assert remote.stack.service.client.get("/live").status_code == 200
        remote.stack.proxy.heals()
    assert {shot.status for shot in load.shots} == {200, status}


def test_opensearch_is_gone_and_comes_back(remote: Remote) -> None:
    client = remote.stack.service.client
    with under_load(remote.stack, "OpenSearch gone") as load:
        remote.stack.proxy.down()
        load.wait(answered(503), "OpenSearch cannot be reached")
        assert client.get("/ready").status_code == 503
        remote.stack.proxy.up()
    wait_until(lambda: client.get("/ready").status_code == 200, "the service is ready")
    assert {shot.status for shot in load.shots} == {200, 503}


def test_a_node_is_stopped_and_started(node_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no proxy's help: a real node goes, and comes back."""
    from lrem_os.node.local import reset_node, start_node, stop_node

    monkeypatch.setenv("LREM_OS_HOME", str(node_cache))
    node = NodeSettings(name=f"restarts-{os.getpid()}", port=quiet_port(), heap_mb=512)
    try:
        url = start_node(node).url
        with (
            serving(url, tmp_path, FAKE_MODELS) as stack,
            under_load(stack, "OpenSearch restarted", kinds=("body",)) as load,
        ):
            stop_node(node)
            load.wait(answered(503), "OpenSearch cannot be reached")
            start_node(node)
            wait_for_index(stack)
        assert {shot.status for shot in load.shots} <= {200, 503, 504}
    finally:
        reset_node(node)


def wait_for_index(stack: Stack) -> None:
    def is_there() -> bool:
        try:
            return stack.node.get(f"/{stack.index}/_search?size=0").status_code == 200
        except httpx.HTTPError:
            return False

    wait_until(is_there, "the node has its index again", seconds=240)


# -- What the service writes


def test_the_behaviour_index_takes_no_writes(remote: Remote) -> None:
    service, node = remote.stack.service, remote.stack.node
    written, failed = "ubi_records_total[ubi_queries,written]", "ubi_records_total[ubi_queries,failed]"
    with under_load(remote.stack, "UBI read-only") as load:
        wait_until(lambda: service.count(written) > 0, "behaviour is written")
        block(node, "ubi_queries", blocked=True)
        before = service.count(failed)
        wait_until(lambda: service.count(failed) >= before + 5, "behaviour is not written")
        block(node, "ubi_queries", blocked=False)
        before = service.count(written)
        wait_until(lambda: service.count(written) >= before + 5, "behaviour is written again")
    assert {shot.status for shot in load.shots} == {200}


def test_the_shared_cache_is_deleted_while_it_is_used(remote: Remote) -> None:
    service, node, name = remote.stack.service, remote.stack.node, f"{remote.stack.index}-cache"
    with under_load(remote.stack, "cache gone") as load:
        wait_until(lambda: node.head(f"/{name}").status_code == 200, "the cache is there")
        before = service.count("engine[shared_written]")
        node.delete(f"/{name}").raise_for_status()
        wait_until(lambda: node.head(f"/{name}").status_code == 200, "the cache is there again")
        wait_until(lambda: service.count("engine[shared_written]") >= before + 5, "thoughts are shared again")
    assert {shot.status for shot in load.shots} == {200}


def test_the_shared_cache_takes_no_writes(remote: Remote) -> None:
    service, node, name = remote.stack.service, remote.stack.node, f"{remote.stack.index}-cache"
    written, failed = "engine[shared_written]", "engine[shared_write_failed]"
    with under_load(remote.stack, "cache read-only") as load:
        wait_until(lambda: node.head(f"/{name}").status_code == 200, "the cache is there")
        block(node, name, blocked=True)
        before = service.count(failed)
        wait_until(lambda: service.count(failed) >= before + 5, "thoughts are not shared")
        block(node, name, blocked=False)
        before = service.count(written)
        wait_until(lambda: service.count(written) >= before + 5, "thoughts are shared again")
    assert {shot.status for shot in load.shots} == {200}


def block(node: httpx.Client, index: str, *, blocked: bool) -> None:
    node.put(f"/{index}/_settings", json={"index.blocks.write": blocked}).raise_for_status()


# -- Clients


def test_clients_leave(opensearch_url: str, tmp_path: Path) -> None:
    """While they wait for the reasoner, and while OpenSearch has their searches."""
    control, patient = Control(tmp_path / "faults"), {"timeout_s": 120, "reason_limit_s": 120}
    with serving(opensearch_url, tmp_path, MIND, mind=control, **patient) as stack:
        leave_in_turn(stack, control)
        assert "Traceback" not in stack.service.log.read_text()


def leave_in_turn(stack: Stack, control: Control) -> None:
    service, proxy, num = stack.service, stack.proxy, 30
    gone = "clients_gone_total[/{index}/_search]"

    def leave(path: str, arrived: Callable[[], bool]) -> None:
        before = service.count(gone)
        clients = [Abandoned(service.url, path.format(number=number)) for number in range(num)]
        wait_until(arrived, "all requests are under way")
        for client in clients:
            client.close()
        wait_until(lambda: service.count(gone) >= before + num, "the service has noticed")
        wait_until(lambda: service.count("requests_running") == 1, "nothing is under way but this")

    with under_load(stack, "clients gone", rate=1):
        num_files = service.num_files()
        control.set(json.dumps({"reason": "hang"}))
        path = f"/{stack.index}/_search?q=what+is+left+{{number}}&lrem.route=reasoned&lrem.deadline_ms=60000"
        leave(path, lambda: service.count("requests_running") > num and service.count("engine[num_waiting_1]") > 5)
        control.set("")
        wait_until(lambda: service.count("engine[num_waiting_1]") == 0, "nobody waits for the reasoner")
        proxy.decides(lambda _method, path: Fault(hang=True) if "preference=leaving" in path else None)
        path = f"/{stack.index}/_search?q=what+is+left+{{number}}&lrem.route=direct&preference=leaving"
        leave(path, lambda: proxy.num_waiting >= num)
        proxy.heals()
        wait_until(lambda: service.num_files() <= num_files + 10, "connections are closed")


class Abandoned:
    """A request whose answer nobody reads."""

    def __init__(self, url: str, path: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)))
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())

    def close(self) -> None:
        self._socket.close()


# -- Models in the service's own process


MIND = {"reasoning": {"timeout_s": 1.5}}


@dataclass
class Inside:
    """A service whose models are in its process."""

    stack: Stack
    control: Control


@pytest.fixture(scope="module")
def inside(opensearch_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Inside]:
    folder = tmp_path_factory.mktemp("inside")
    control = Control(folder / "faults")
    with serving(opensearch_url, folder, MIND, mind=control) as stack:
        yield Inside(stack, control)
        control.set("")
    assert "Traceback" not in stack.service.log.read_text()


@pytest.mark.parametrize("fault", ["die", "error", "hang", "none", "nan", "zeros", "shape"])
def test_the_reasoner_in_the_process_does_badly(inside: Inside, fault: str) -> None:
    codes = ["reasoner_timeout", "reasoner_broken"] if fault == "hang" else ["reasoner_failed", "reasoner_open"]
    with under_load(inside.stack, f"reasoner in the process: {fault}") as load:
        inside.control.set(json.dumps({"reason": fault}))
        load.wait(degraded(codes[0], num=3), "reasoning is missing")
        load.wait(degraded(codes[1], num=5), "the reasoner is left alone")
        inside.control.set("")
    assert {shot.status for shot in load.shots} == {200}
    # a machine that stalls may keep the embedder from being in time, which is said and is not what is tested
    assert [shot for shot in load.shots if shot.route == "bm25" and "embedder_timeout" not in shot.degraded] == []


@pytest.mark.parametrize("fault", ["die", "error", "hang", "none", "nan", "zeros", "shape"])
def test_the_embedder_in_the_process_does_badly(inside: Inside, fault: str) -> None:
    code = "embedder_broken" if fault == "hang" else "embedder_failed"
    with under_load(inside.stack, f"embedder in the process: {fault}") as load:
        inside.control.set(json.dumps({"embed": fault}))
        load.wait(degraded(code), "vectors are missing")
        inside.control.set("")
    assert {shot.status for shot in load.shots} == {200}
    assert {shot.route for shot in load.shots if code in shot.degraded} == {"bm25"}


# -- Too much, and the end

FAKE_MODELS = {"model": {"name": "fake:16"}, "reasoning": {"name": "fake:", "timeout_s": 1.5}}


def test_ten_times_as_much_as_it_can(opensearch_url: str, tmp_path: Path) -> None:
    """For 30 seconds, of OpenSearch (4 a second) and the reasoner: what is taken on is answered, the rest refused."""
    reasoner = ModelServer(tmp_path, "reasoner")
    sections = {
        "model": {"name": "fake:16"},
        "reasoning": {"name": "tiny", "backend": "openai", "url": reasoner.url, "timeout_s": 1.5, "samples": 1},
    }
    try:
        reasoner.up()
        options = {"max_requests": 2, "reason_batch": 1, "queue_limit": 1}
        with serving(opensearch_url, tmp_path, sections, **options) as stack:
            overload(stack, reasoner)
        assert "Traceback" not in stack.service.log.read_text()
    finally:
        reasoner.kill()


def overload(stack: Stack, reasoner: ModelServer) -> None:
    refused = "requests_total[other,429]"
    stack.proxy.strikes(Fault(delay_s=0.5), "/_search")
    reasoner.control.set("slow")
    before = stack.service.metrics()
    with Load(stack.service.url, stack.index, rate=40, name=f"overload-{uuid.uuid4().hex[:6]}") as load:
        wait_until(lambda: load.num_sent >= 30 * 40, "30 seconds are over")
    after = stack.service.metrics()
    check(load.shots, before, after)
    assert len(load.shots) == load.num_sent >= 30 * 40
    assert {shot.status for shot in load.shots} == {200, 429}
    assert statuses(load.shots)["429"] == after[refused] - before.get(refused, 0)
    assert statuses(load.shots)["200"] >= 20  # it goes on answering
    assert told(load.shots)
    stack.proxy.heals()
    reasoner.control.set("")
    with Load(stack.service.url, stack.index, rate=1, name=f"after-{uuid.uuid4().hex[:6]}", kinds=("body",)) as calm:
        recovered_s = calm.wait_for_whole()
    note("10 times overload, 30 s", load.shots, recovered_s)


def test_told_to_end_under_load(opensearch_url: str, tmp_path: Path) -> None:
    with serving(opensearch_url, tmp_path, FAKE_MODELS, timeout_s=60) as stack:
        proxy, service = stack.proxy, stack.service
        with Load(service.url, stack.index, rate=10, name=f"end-{uuid.uuid4().hex[:6]}", kinds=("body",)) as load:
            load.wait_for_whole()
            proxy.strikes(Fault(delay_s=1.0), "/_search")
            wait_until(lambda: proxy.num_waiting >= 3, "searches are under way")
            told_at = time.monotonic()
            service.terminate()
            exit_code = service.end()
            took_s = time.monotonic() - told_at
            load.wait(lambda shots: sum(shot.status is None for shot in list(shots)) >= 5, "new requests are refused")
        assert exit_code == 0, service.log.read_text()
        assert took_s <= stack.settings.serve.drain_s + 7 + ALLOWANCE_S  # 7: behaviour records, shared cache
        assert {shot.status for shot in load.shots} == {200, None}
        answered_ids = {f"{load.name}-{shot.number}" for shot in load.shots if shot.status == 200}
        taken_on = {name for name in proxy.ids if name.startswith(load.name)}
        assert taken_on == answered_ids
        assert sum(shot.began + shot.seconds >= told_at for shot in load.shots if shot.status == 200) >= 3
        assert recorded(stack.node, answered_ids) == answered_ids
        assert "Traceback" not in service.log.read_text()
        note("SIGTERM", load.shots, None)


def recorded(node: httpx.Client, query_ids: Collection[str]) -> set[str]:
    """Return those that are in the behaviour index."""
    answer = node.post("/ubi_queries/_mget?_source=false", json={"ids": sorted(query_ids)}).raise_for_status()
    return {row["_id"] for row in answer.json()["docs"] if row["found"]}
