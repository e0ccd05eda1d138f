from __future__ import annotations

import asyncio

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrem_os.config import SearchSettings
from lrem_os.query_plugin.service.hosts import Hosts
from lrem_os.query_plugin.service.problems import Problem
from lrem_os.query_plugin.service.upstream import Upstream
from lrem_os.query_plugin.service.wire import TooSlow, Unreachable, Wire
from tests.fakes.service import Cluster

URLS = ("http://one:1", "http://two:2", "http://three:3")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_hosts_are_asked_in_turn() -> None:
    hosts = Hosts(URLS)
    assert [hosts.order()[0] for _ in range(4)] == [*URLS, URLS[0]]


def test_a_host_that_failed_comes_last_until_it_has_rested() -> None:
    clock = Clock()
    hosts = Hosts(URLS, clock=clock)
    hosts.failed(URLS[1])
    assert [hosts.order()[-1] for _ in range(3)] == [URLS[1]] * 3
    clock.now += 1.0
    assert URLS[1] in [hosts.order()[0] for _ in range(3)]


def test_a_host_that_keeps_failing_rests_ever_longer_but_not_for_good() -> None:
    clock, rests = Clock(), []
    hosts = Hosts(URLS, clock=clock)
    for _ in range(8):
        hosts.failed(URLS[0])
        hosts.failed(URLS[0])  # a request that was under way too: no news
        began = clock.now
        while URLS[0] not in [hosts.order()[0] for _ in URLS]:
            clock.now += 0.5
        rests.append(clock.now - began)
    assert rests == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    hosts.worked(URLS[0])
    hosts.failed(URLS[0])
    clock.now += 1.0
    assert URLS[0] in [hosts.order()[0] for _ in URLS]


@given(st.lists(st.tuples(st.sampled_from(["failed", "worked", "order", "wait"]), st.sampled_from(URLS)), max_size=40))
def test_every_host_is_always_among_those_to_ask(steps: list[tuple[str, str]]) -> None:
    clock = Clock()
    hosts = Hosts(URLS, clock=clock)
    for step, url in steps:
        if step == "wait":
            clock.now += 0.7
        elif step == "order":
            assert sorted(hosts.order()) == sorted(URLS)
        else:
            getattr(hosts, step)(url)
    assert sorted(hosts.order()) == sorted(URLS)


class Nodes(Cluster):
    """Nodes of one cluster, each of which answers, says 503, is gone, or is silent."""

    def __init__(self, **how: str) -> None:
        super().__init__()
        self.how = how
        self.answer = self.by_host

    async def by_host(self, request: httpx.Request) -> httpx.Response:
        how = self.how.get(request.url.host, "answers")
        if how == "gone":
            raise Unreachable("refused")
        if how == "silent":
            raise TooSlow("slow")
        if how == "503":
            return httpx.Response(503, stream=httpx.ByteStream(request.url.host.encode()))
        return await self.hits(request)

    @property
    def asked(self) -> list[str]:
        return [request.url.host for request in self.requests]


def ask(nodes: Nodes, times: int = 1) -> list[int]:
    """Send so many requests; return their statuses."""
    wire: Wire = nodes

    async def run() -> list[int]:
        upstream = Upstream(URLS, SearchSettings(), timeout_s=30, max_connections=10, wire=wire)
        found = []
        for _ in range(times):
            try:
                found.append((await upstream.send("POST", "/products/_search", body=b"{}")).status)
            except Problem as exc:
                found.append(exc.status)
        return found

    return asyncio.run(run())


def test_all_hosts_share_the_work() -> None:
    nodes = Nodes()
    assert ask(nodes, 6) == [200] * 6
    assert nodes.asked == ["one", "two", "three"] * 2


@pytest.mark.parametrize("how", ["gone", "503"])
def test_a_host_that_cannot_answer_is_passed_over_and_then_left_alone(how: str) -> None:
    nodes = Nodes(two=how)
    assert ask(nodes, 6) == [200] * 6
    assert nodes.asked.count("two") == 1


def test_a_silent_host_costs_one_request() -> None:
    nodes = Nodes(two="silent")
    assert ask(nodes, 6) == [200, 504, 200, 200, 200, 200]
    assert nodes.asked.count("two") == 1


def test_a_cluster_that_says_503_is_asked_twice_and_its_answer_passed_on() -> None:
    nodes = Nodes(one="503", two="503", three="503")
    assert ask(nodes) == [503]
    assert nodes.asked == ["one", "two"]


def test_503_is_passed_on_where_the_others_are_gone() -> None:
    nodes = Nodes(one="503", two="gone", three="gone")
    assert ask(nodes) == [503]
    assert nodes.asked == ["one", "two", "three", "one"]


def test_where_no_host_can_be_reached_the_answer_is_503() -> None:
    nodes = Nodes(one="gone", two="gone", three="gone")
    assert ask(nodes) == [503]
    assert nodes.asked == ["one", "two", "three", "one"]
