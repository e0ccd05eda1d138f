from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from lrem_os.config_ray import RaySettings
from lrem_os.errors import RayError
from lrem_os.ingest.on_ray.cluster import Pool, joined, plan_pool

SMALL, LARGE = {"CPU": 4.0, "node:10.0.0.1": 1.0}, {"CPU": 64.0}
HEAD = {"memory": 1e9}  # a head that takes no work
GPUS = {"CPU": 16.0, "GPU": 4.0}


def named(nodes: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {f"n{number}": node for number, node in enumerate(nodes)}


@pytest.mark.parametrize(
    ("settings", "nodes", "expected"),
    [
        ({}, [SMALL], Pool(1, 4, 0.0)),
        ({}, [SMALL, SMALL, LARGE], Pool(18, 4, 0.0)),  # threads of the smallest, as many as fit on each
        ({}, [LARGE], Pool(8, 8, 0.0)),
        ({}, [HEAD, LARGE], Pool(8, 8, 0.0)),
        ({"cpus": 3}, [SMALL, SMALL], Pool(2, 3, 0.0)),
        ({"embedders": 5}, [SMALL], Pool(5, 4, 0.0)),
        ({}, [SMALL, GPUS, GPUS], Pool(8, 4, 1.0)),
        ({"gpus": 0.5}, [GPUS], Pool(8, 8, 0.5)),
        ({"gpus": 2, "cpus": 1}, [GPUS], Pool(2, 1, 2.0)),
        ({"gpus": 0}, [GPUS], Pool(2, 8, 0.0)),
    ],
)
def test_what_a_cluster_has_room_for(settings: dict[str, Any], nodes: list[dict[str, float]], expected: Pool) -> None:
    pool = plan_pool(RaySettings(**settings), named(nodes), on_gpu=True)
    assert replace(pool, places=()) == expected


def test_a_model_for_processors_takes_no_gpu() -> None:
    assert plan_pool(RaySettings(), named([GPUS]), on_gpu=False) == Pool(2, 8, 0.0, ("n0", "n0"))


def test_embedders_are_spread() -> None:
    pool = plan_pool(RaySettings(cpus=2, embedders=3), named([SMALL, HEAD, {"CPU": 6.0}]), on_gpu=True)
    assert pool.places == ("n0", "n2", "n0", "n2", "n2")


@pytest.mark.parametrize(
    ("settings", "nodes", "told"),
    [
        ({"gpus": 1}, [SMALL, LARGE], "1 GPUs: there are 4 CPUs and 0 GPUs, 64 CPUs and 0 GPUs"),
        ({"cpus": 8}, [SMALL], "an embedder of 8 CPUs"),
        ({}, [HEAD], "there are 0 CPUs"),
        ({}, [], "there are no nodes"),
    ],
)
def test_no_room_is_told_before_anything_waits(
    settings: dict[str, Any], nodes: list[dict[str, float]], told: str
) -> None:
    with pytest.raises(RayError, match=told):
        plan_pool(RaySettings(**settings), named(nodes), on_gpu=True)


def test_a_lost_node_s_embedders_find_room_on_another() -> None:
    pool = plan_pool(RaySettings(), named([SMALL, SMALL]), on_gpu=False)
    assert pool.size * pool.resources["num_cpus"] <= SMALL["CPU"]


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of its own: here a cluster of the session may be joined."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)


@pytest.mark.usefixtures("no_cluster")
def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(RayError, match=f"no Ray cluster at {address}"), joined(RaySettings(address=address)):
            pass


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize("address", ["10.0.0.1", "host:port", ":", "host:99999"])
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(RayError, match="no Ray cluster at"), joined(RaySettings(address=address)):
        pass


def test_a_ray_client_is_refused() -> None:
    with pytest.raises(ValidationError, match="which is a Ray client's"):
        RaySettings(address="ray://head:10001")
