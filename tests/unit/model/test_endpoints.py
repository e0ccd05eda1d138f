"""Which of several servers is asked: on a clock that stands still, and against real servers that are killed or slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from lrem_os.config import ModelSettings, ReasoningSettings
from lrem_os.errors import EmbeddingError, GenerationError, ModelError
from lrem_os.model import openai_client
from lrem_os.model.endpoints import FIRST_REST_S, LONGEST_REST_S, Endpoint, Endpoints
from lrem_os.model.load import Models
from lrem_os.model.openai_api import OpenAIEmbedder, OpenAIReasoner
from lrem_os.query_plugin.service.metrics import Metrics
from tests.fakes.openai_server import BROKEN, GARBAGE, FakeOpenAI, Fault, when
from tests.fakes.serving import ModelServer

URLS = ("http://one/v1", "http://two/v1", "http://three/v1")


class Servers:
    """Endpoints and their clock."""

    def __init__(self, *urls: str) -> None:
        self.seconds = 1000.0
        self.all = Endpoints(urls or URLS, now=lambda: self.seconds)

    def begin(self, tried: Any = ()) -> tuple[Endpoint, float]:
        endpoint = self.all.choose(tried)
        assert endpoint is not None
        return endpoint, self.all.begin(endpoint)

    def end(self, endpoint: Endpoint, begun: float) -> None:
        self.all.end(endpoint)
        self.all.answered(endpoint, begun)

    def answer(self, seconds: float) -> str:
        """Have one request answered; return by whom."""
        endpoint, begun = self.begin()
        self.seconds += seconds
        self.end(endpoint, begun)
        return endpoint.url


def test_requests_at_the_same_moment_are_spread() -> None:
    servers = Servers()
    assert [servers.begin()[0].url for _ in range(6)] == [*URLS, *URLS]
    assert [state.num_running for state in servers.all.states] == [2, 2, 2]


def test_the_one_that_answers_first_is_asked_first_and_the_slow_one_when_that_is_busy() -> None:
    servers = Servers(*URLS[:2])
    slow, begun = servers.begin()
    servers.seconds += 1.0
    servers.end(slow, begun)
    assert servers.answer(0.1) == URLS[1]
    assert {servers.answer(0.1) for _ in range(20)} == {URLS[1]}
    busy = [servers.begin()[0].url for _ in range(11)]
    assert busy.count(URLS[0]) == 1  # ten at the fast one take as long


def test_a_server_that_was_slow_is_tried_again() -> None:
    servers = Servers(*URLS[:2])
    slow, begun = servers.begin()
    servers.seconds += 5.0
    servers.end(slow, begun)
    asked = [servers.answer(0.1) for _ in range(150)]
    assert 1 <= asked.count(URLS[0]) < 15


def test_the_same_address_twice_is_one_server_and_one_is_never_left_alone() -> None:
    servers = Servers(URLS[0], URLS[0])
    assert len(servers.all) == 1
    endpoint, _ = servers.begin()
    servers.all.failed(endpoint)
    assert servers.all.choose() is endpoint
    assert servers.all.states[0].is_up
    assert servers.all.states[0].num_failures == 1


def test_who_failed_rests_longer_each_time_and_is_as_good_as_new_after_an_answer() -> None:
    servers = Servers(*URLS[:2])
    bad, _ = servers.begin()
    rests = []
    for _ in range(7):
        servers.all.failed(bad)
        assert servers.all.choose() is not bad
        assert servers.all.due() == []
        begins = servers.seconds
        while not servers.all.due():
            servers.seconds += 0.5
        rests.append(servers.seconds - begins)
        assert servers.all.due() == []  # one look at a time
        assert not bad.is_up  # until the look says otherwise
        servers.all.back(bad)
        assert bad.is_up
    assert rests == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert (rests[0], rests[-1]) == (FIRST_REST_S, LONGEST_REST_S)
    servers.all.end(bad)
    servers.all.answered(bad, servers.seconds)
    servers.all.failed(bad)
    assert bad.rests_until == servers.seconds + FIRST_REST_S


def test_when_all_rest_the_one_that_rests_for_longest_is_asked() -> None:
    servers = Servers(*URLS[:2])
    for _ in range(2):
        servers.all.failed(servers.begin()[0])
        servers.seconds += 0.1
    assert servers.all.num_up == 0
    one = servers.all.choose()
    assert one is not None
    assert one.url == URLS[0]
    assert servers.all.choose([one]) is None


@given(st.lists(st.sampled_from(["begin", "answer", "fail", "look", "wait"]), max_size=60))
def test_whatever_happens_somebody_is_asked(events: list[str]) -> None:
    servers = Servers()
    running: list[tuple[Endpoint, float]] = []
    for event in events:
        if event == "begin":
            running.append(servers.begin())
        elif event == "answer" and running:
            servers.end(*running.pop(0))
        elif event == "fail" and running:
            endpoint, _ = running.pop()
            servers.all.end(endpoint)
            servers.all.failed(endpoint)
        elif event == "look":
            for endpoint in servers.all.due():
                servers.all.back(endpoint)
        else:
            servers.seconds += 0.7
        chosen = servers.all.choose()
        assert chosen is not None
        assert chosen.is_up or servers.all.num_up == 0
        assert sum(state.num_running for state in servers.all.states) == len(running)


# ---- against servers

pytest.importorskip("openai")
QUERIES = [f"query {number}" for number in range(8)]
NEVER = Fault(hang=True)


@pytest.fixture
def pair() -> Iterator[tuple[FakeOpenAI, FakeOpenAI]]:
    with FakeOpenAI() as one, FakeOpenAI() as two:
        yield one, two


@pytest.fixture
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_client, "_LOOK_S", 0.3)


def embedder(*servers: FakeOpenAI, **options: Any) -> OpenAIEmbedder:
    return OpenAIEmbedder([server.url for server in servers], "small", **({"dimension": 8, "timeout_s": 60} | options))


def reasoner(*servers: FakeOpenAI, **options: Any) -> OpenAIReasoner:
    return OpenAIReasoner([server.url for server in servers], "small", **({"samples": 2, "timeout_s": 60} | options))


def asked(server: FakeOpenAI) -> int:
    return sum(call.path != "/v1/models" for call in server.calls)


def wait_until(happened: Callable[[], bool]) -> None:
    limit = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < limit
        time.sleep(0.05)


def test_a_batch_is_split_between_the_servers(pair: tuple[FakeOpenAI, FakeOpenAI]) -> None:
    together = barrier_of(*pair)
    found = embedder(*pair).embed_queries(QUERIES)
    assert together.broken is False  # both worked on it at the same time
    assert sorted(len(call.texts) for server in pair for call in server.calls) == [4, 4]
    with FakeOpenAI() as alone:
        assert np.array_equal(found, embedder(alone).embed_queries(QUERIES))  # in the order given


def barrier_of(*servers: FakeOpenAI) -> threading.Barrier:
    """Let every first request wait for the other servers' first; broken after a minute."""
    barrier = threading.Barrier(len(servers), timeout=60)

    def hold(server: FakeOpenAI) -> Callable[[Any], Fault | None]:
        def fault(_call: Any) -> Fault | None:
            if asked(server) == 1:
                barrier.wait()
            return None

        return fault

    for server in servers:
        server.fault = hold(server)
    return barrier


def test_one_is_killed_under_load_and_comes_back(tmp_path: Path) -> None:
    servers = [ModelServer(tmp_path, name) for name in ("one", "two")]
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.kill)
            server.up()
        urls = [server.url for server in servers]
        model = OpenAIEmbedder(urls, "small", dimension=8, timeout_s=60)
        expected, over, count = model.embed_queries(QUERIES), threading.Event(), [0]

        def shopper() -> None:
            while not over.is_set():
                assert np.array_equal(model.embed_queries(QUERIES), expected)
                count[0] += 1

        with ThreadPoolExecutor(3) as pool:
            shoppers = [pool.submit(shopper) for _ in range(3)]
            stack.callback(over.set)
            wait_until(lambda: count[0] > 10 or any(each.done() for each in shoppers))
            servers[1].kill()
            wait_until(lambda: not model.endpoints[1].is_up or any(each.done() for each in shoppers))
            servers[1].up()
            before = model.endpoints[1].num_answers
            wait_until(lambda: model.endpoints[1].num_answers > before or any(each.done() for each in shoppers))
            over.set()
            for each in shoppers:
                each.result()
        up, back = model.endpoints
        assert (up.is_up, up.num_failures, back.is_up) == (True, 0, True)
        assert 1 <= back.num_failures < 40  # some requests at the moment of its end, and a look now and then


def test_requests_under_way_when_one_is_killed_are_answered_by_the_other(pair: tuple[FakeOpenAI, FakeOpenAI]) -> None:
    one, two = pair
    two.fault = lambda _call: Fault(hang=True)
    model = embedder(one, two)
    killer = threading.Thread(target=lambda: (wait_until(lambda: asked(two) > 0), two.closed.set()))
    killer.start()
    assert len(model.embed_queries(QUERIES)) == len(QUERIES)
    killer.join()


@pytest.mark.usefixtures("short_looks")
def test_one_that_hangs_altogether_costs_looks_and_not_the_time_limit(pair: tuple[FakeOpenAI, FakeOpenAI]) -> None:
    one, two = pair
    two.fault = lambda _call: NEVER
    model = reasoner(one, two, timeout_s=100_000.0)
    assert all(len(samples) == 2 for samples in model.reason(QUERIES))  # the test's own limit is shorter
    assert not model.endpoints[1].is_up
    before = asked(two)
    assert all(len(samples) == 2 for samples in model.reason(QUERIES))
    assert asked(two) == before


def test_one_whose_model_hangs_leaves_time_for_the_other(pair: tuple[FakeOpenAI, FakeOpenAI]) -> None:
    one, two = pair
    two.fault = lambda call: None if call.path == "/v1/models" else NEVER
    model = reasoner(one, two, timeout_s=2.0)
    assert all(len(samples) == 2 for samples in model.reason(QUERIES))
    assert model.endpoints[1].num_failures >= 1


def test_one_that_is_slow_gets_little(pair: tuple[FakeOpenAI, FakeOpenAI]) -> None:
    one, two = pair
    two.fault = lambda _call: Fault(delay_s=0.6)
    model = embedder(one, two, batch_size=1)
    model.embed_queries(QUERIES[:2])
    for number in range(20):
        model.embed_queries([f"alone {number}"])
    assert asked(two) <= 4
    assert asked(one) >= 18


@pytest.mark.parametrize("fault", [BROKEN, GARBAGE, Fault(503), Fault(404), Fault(401), Fault(drop=True)], ids=str)
def test_one_that_fails_is_no_fault_of_the_texts(pair: tuple[FakeOpenAI, FakeOpenAI], fault: Fault) -> None:
    one, two = pair
    two.fault = lambda call: None if call.path == "/v1/models" else fault
    model = reasoner(one, two)
    assert all(sample.keywords for samples in model.reason(QUERIES) for sample in samples)
    assert [state.num_failures > 0 for state in model.endpoints] == [False, True]


def test_a_text_that_is_refused_is_refused_by_one_for_all(pair: tuple[FakeOpenAI, FakeOpenAI]) -> None:
    for server in pair:
        server.fault = when("query 3", Fault(400))
    with pytest.raises(EmbeddingError, match="refused rows 3 of 8"):
        embedder(*pair).embed_queries(QUERIES)
    assert sum("query 3" in call.texts and len(call.texts) == 1 for server in pair for call in server.calls) == 1


def test_a_text_on_which_all_stumble_is_the_texts_fault(pair: tuple[FakeOpenAI, FakeOpenAI]) -> None:
    for server in pair:
        server.fault = when("query 3", Fault(500, headers={"retry-after": "0.01"}))
    model = reasoner(*pair)
    found = model.reason(QUERIES)
    assert found[3] == ()
    assert all(len(samples) == 2 for number, samples in enumerate(found) if number != 3)
    assert all(state.is_up for state in model.endpoints)


def test_when_none_is_there_it_is_said() -> None:
    with ExitStack() as stack:
        gone = [stack.enter_context(FakeOpenAI()) for _ in range(2)]
    with pytest.raises(GenerationError, match="cannot be reached"):
        reasoner(*gone).reason(QUERIES)
    with pytest.raises(ModelError, match="cannot be reached"):
        embedder(*gone).embed_queries(QUERIES)


def test_configured_servers_are_all_asked(pair: tuple[FakeOpenAI, FakeOpenAI]) -> None:
    one, two = pair
    model = ModelSettings(name="small", backend="openai", url=one.url, urls=(two.url,))
    models = Models(model, ReasoningSettings(name="small", backend="openai", urls=(one.url, two.url)))
    models.embedder.embed_queries(QUERIES)
    models.reasoner.reason(QUERIES)
    assert asked(one) >= 2
    assert asked(two) >= 2
    urls = [one.url, two.url]
    assert {name: [state.url for state in states] for name, states in models.endpoints.items()} == {
        "embedder": urls,
        "reasoner": urls,
    }
    with pytest.raises(ValidationError, match=r"set model\.url too"):
        ModelSettings(name="small", backend="openai")


def test_credentials_in_an_address_are_not_told() -> None:
    assert Endpoints(["https://me:secret@one/v1"]).states[0].url == "https://********@one/v1"


def test_metrics_tell_every_server() -> None:
    servers = Servers(*URLS[:2])
    servers.answer(0.5)
    servers.all.failed(servers.begin()[0])
    page = Metrics().page({}, endpoints={"reasoner": servers.all.states}).decode()
    assert 'lrem_endpoint{model="reasoner",url="http://one/v1",what="up"} 1.0' in page
    assert 'lrem_endpoint{model="reasoner",url="http://one/v1",what="seconds"} 0.5' in page
    assert 'lrem_endpoint{model="reasoner",url="http://two/v1",what="up"} 0.0' in page
    assert 'lrem_endpoint{model="reasoner",url="http://two/v1",what="failures"} 1.0' in page
