from __future__ import annotations

from typing import Any

import pytest
from opensearchpy import exceptions

from lrem_os.errors import SearchUnavailable
from lrem_os.search.pages import read_pages


class Client:
    """Three pages of one point in time, whose id changes as it goes."""

    def __init__(self, version: str = "3.6.0", fail: bool = False) -> None:
        self.version, self.fail = version, fail
        self.bodies: list[dict[str, Any]] = []
        self.closed: list[str] = []

    def info(self) -> dict[str, Any]:
        return {"version": {"number": self.version}}

    def create_pit(self, index: str, params: dict[str, str]) -> dict[str, str]:
        assert (index, params) == ("logs", {"keep_alive": "5m"})
        return {"pit_id": "pit-0"}

    def search(self, body: dict[str, Any]) -> dict[str, Any]:
        self.bodies.append(dict(body))
        if self.fail and len(self.bodies) == 2:
            raise exceptions.TransportError(503, "busy", {})
        page = len(self.bodies)
        hits = [{"_source": {"n": page * 10 + one}, "sort": [page, one]} for one in range(2)] if page < 3 else []
        return {"pit_id": f"pit-{page}", "hits": {"hits": hits}}

    def delete_pit(self, body: dict[str, Any]) -> None:
        self.closed += body["pit_id"]


def pages(client: Client) -> list[list[dict[str, Any]]]:
    return list(read_pages(client, "logs", {"match_all": {}}, fields=["n"], time_field="t", page=2))  # type: ignore[arg-type]


def test_each_page_goes_on_behind_the_last_hit() -> None:
    client = Client()
    assert pages(client) == [[{"n": 10}, {"n": 11}], [{"n": 20}, {"n": 21}]]
    assert [body.get("search_after") for body in client.bodies] == [None, [1, 1], [2, 1]]
    assert [body["pit"]["id"] for body in client.bodies] == ["pit-0", "pit-1", "pit-2"]
    assert all(body["size"] == 2 and body["_source"] == ["n"] for body in client.bodies)
    assert len(client.closed) == 1


@pytest.mark.parametrize(("version", "tie"), [("2.19.0", "_id"), ("3.2.0", "_id"), ("3.3.0", "_shard_doc")])
def test_ties_are_broken_by_what_the_version_has(version: str, tie: str) -> None:
    client = Client(version)
    pages(client)
    assert client.bodies[0]["sort"] == [{"t": "asc"}, {tie: "asc"}]


def test_the_point_in_time_is_closed_whatever_happens() -> None:
    failing = Client(fail=True)
    with pytest.raises(SearchUnavailable):
        pages(failing)
    assert failing.closed == ["pit-1"]
    left = Client()
    first = read_pages(left, "logs", {"match_all": {}}, fields=["n"], time_field="t", page=2)  # type: ignore[arg-type]
    next(first)
    first.close()  # type: ignore[attr-defined]
    assert left.closed == ["pit-1"]
