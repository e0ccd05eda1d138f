"""A share of what `python -m benchmarks.fuzz` sends: 2,000 requests, the same every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.fuzz.asks import asks
from benchmarks.fuzz.fuzz import run
from benchmarks.fuzz.judge import complaint
from benchmarks.fuzz.mutate import Mutator
from benchmarks.fuzz.target import running

NUM_REQUESTS, SEED = 2000, 1
MOST_MIB = 16.0  # a leak of 11 KiB a request would be more


@pytest.mark.opensearch
def test_fuzzed_requests_find_no_fault_and_leave_nothing_behind(opensearch_url: str, tmp_path: Path) -> None:
    with running(opensearch_url, tmp_path) as target:
        outcome = run(target, NUM_REQUESTS, SEED)
        assert outcome.wrong == []
        assert outcome.leaks(MOST_MIB) == []
        assert "Traceback" not in (tmp_path / "serve.log").read_text(encoding="utf-8")
    assert outcome.num_requests == NUM_REQUESTS
    answered = sum(one[200] for one in outcome.statuses.values())
    refused = sum(one[400] for one in outcome.statuses.values())
    assert min(answered, refused, outcome.routes["direct"]) > NUM_REQUESTS / 50
    print(outcome.as_json())


def test_the_same_seed_gives_the_same_requests() -> None:
    def some(seed: int) -> list[object]:
        every = asks(Mutator(seed, [b'{"query":{"match_all":{}}}'], [b'{"query":{"neural":{}}}']), "products")
        return [next(every) for _ in range(200)]

    assert some(1) == some(1) != some(2)


ID = {"x-request-id": "7", "content-type": "application/json"}
OURS = b'{"error":{"type":"internal_exception","reason":"x","request_id":"7"},"status":500}'
THEIRS = b'{"error":{"type":"null_pointer_exception","reason":"x"},"status":500}'


@pytest.mark.parametrize(
    ("path", "status", "headers", "body", "told"),
    [
        ("/i/_search", 500, ID, OURS, "fault of the service"),
        ("/i/_search", 500, ID, THEIRS, None),
        ("/i/_search", 200, ID, b'{"hits":{}}', None),
        ("/i/_search", 200, ID, b"{}", "without"),
        ("/i/_search", 200, ID, b'{"hits":', "no JSON"),
        ("/i/_search", 400, ID, b'{"error":{"type":"a","reason":"b"},"status":404}', "shape"),
        ("/i/_search", 400, {"content-type": "application/json"}, b"{}", "no x-request-id"),
        ("/i/_search", 404, ID | {"content-type": "text/html"}, b"<p>", "text/html"),
        ("/v1/route", 400, ID, b'{"error":{"type":"a","reason":"b"}}', "OpenAI"),
        ("/v1/route", 200, ID, b'{"text":"a"}', "without"),
    ],
)
def test_faults_are_seen(path: str, status: int, headers: dict[str, str], body: bytes, told: str | None) -> None:
    found = complaint(path, status, headers, body)
    assert (found is None) if told is None else (found is not None and told in found)
