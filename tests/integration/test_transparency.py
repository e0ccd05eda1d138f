"""Over 300 search bodies through the service and straight to OpenSearch: the same answer, or the same error."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from tests.corpus import search_bodies
from tests.fakes.engine import vector_of
from tests.fakes.served import SECRET, Ways, two_ways

pytestmark = pytest.mark.opensearch

JSON = {"content-type": "application/json"}
UNPACKED = JSON | {"accept-encoding": "identity"}  # the service adds to plain answers alone
NDJSON = {"content-type": "application/x-ndjson"}
_TOOK = re.compile(rb'("took" ?: ?)\d+')
_OURS = re.compile(rb',"ext":(\{"lrem":\{.*\}\})\}$')
_TIMES = {"profile", "processor_results"}  # hold durations
# warning: OpenSearch says once that something is deprecated
_NOT_COMPARED = {"content-length", "warning", "x-request-id", "x-lrem-route", "x-lrem-took-ms"}


@pytest.fixture(scope="module")
def ways(opensearch_url: str) -> Iterator[Ways]:
    yield from two_ways(opensearch_url)


def without_times(value: Any, *, inside: bool = False) -> Any:
    """Return a value whose numbers are gone where they say how long something took."""
    if isinstance(value, dict):
        return {
            key: without_times(item, inside=inside or key in _TIMES) for key, item in value.items() if key != "took"
        }
    if isinstance(value, list):
        return [without_times(item, inside=inside) for item in value]
    return None if inside and isinstance(value, int | float) else value


def same(answer: httpx.Response) -> tuple[int, dict[str, str], Any]:
    """Return what must be the same by both ways: status, headers, and every byte that is no duration."""
    headers = {name: value for name, value in answer.headers.items() if name not in _NOT_COMPARED}
    body: Any = _TOOK.sub(rb"\g<1>0", answer.content)
    if any(f'"{name}"'.encode() in body for name in _TIMES):
        body = without_times(answer.json())
    return answer.status_code, headers, body


def differences(ways: Ways, bodies: Sequence[bytes], statuses: set[int], path: str = "_search") -> list[Any]:
    """Send each body by both ways; return those whose answers differ."""
    found = []
    for body in bodies:
        asked: dict[str, Any] = {"url": f"/{ways.index}/{path}", "content": body, "headers": JSON}
        straight, through = same(ways.straight.post(**asked)), same(ways.through.post(**asked))
        statuses.add(straight[0])
        if straight != through:
            found.append((body[:300], straight, through))
    return found


def test_over_300_bodies_get_the_same_answer_byte_for_byte(ways: Ways) -> None:
    bodies = search_bodies.plain(ways.index, vector_of)
    assert len(set(bodies)) == len(bodies) > 400
    statuses: set[int] = set()
    assert differences(ways, bodies, statuses) == []
    assert {200, 400} <= statuses
    print(f"{len(bodies)} bodies, statuses {sorted(statuses)}")


def searchable(ways: Ways) -> list[bytes]:
    """Return the bodies that OpenSearch answers, each in one line."""
    wrong = {*search_bodies.named("wrong", ways.index, vector_of)}
    return [
        body
        for body in search_bodies.plain(ways.index, vector_of)
        if body not in wrong and body.startswith(b"{") and b"\n" not in body and b"\r" not in body
    ]


def lines_of(bodies: Sequence[bytes], header: bytes = b"{}") -> bytes:
    return b"".join(header + b"\n" + body + b"\n" for body in bodies)


def test_an_msearch_of_them_gets_the_same_answers(ways: Ways) -> None:
    bodies = [body for body in searchable(ways) if b'"hybrid"' not in body]  # its inline pipeline is of _search alone
    pages = [lines_of(bodies[at : at + 25]) for at in range(0, len(bodies), 25)]
    statuses: set[int] = set()
    assert differences(ways, pages, statuses, "_msearch?max_concurrent_searches=1") == []
    assert 200 in statuses


def told(answer: httpx.Response) -> tuple[dict[str, Any], bytes]:
    """Return what the service added to an answer, and the answer without it."""
    found = _OURS.search(answer.content)
    assert found is not None, answer.text[-300:]
    return json.loads(found[1]), answer.content[: found.start()] + b"}"


def test_a_clause_of_ours_is_answered_as_the_knn_clause_that_it_stands_for(ways: Ways) -> None:
    pairs = search_bodies.neural(ways.index, vector_of)
    assert len(set(pairs)) == len(pairs) >= 70
    wrong, good = [], 0
    for ours, theirs in pairs:
        straight = ways.straight.post(f"/{ways.index}/_search", content=theirs, headers=UNPACKED)
        through = ways.through.post(f"/{ways.index}/_search", content=ours, headers=UNPACKED)
        assert through.headers["x-lrem-route"] == "direct"
        if straight.status_code == 200:
            good += 1
            ext, rest = told(through)
            assert ext["lrem"]["route"] == "direct"
            through = httpx.Response(through.status_code, headers=through.headers, content=rest)
        if same(straight) != same(through):
            wrong.append((ours, same(straight), same(through)))
    assert wrong == []
    assert good >= 50


def test_a_clause_of_ours_in_an_msearch_is_answered_in_its_place(ways: Ways) -> None:
    pairs = [pair for pair in search_bodies.neural(ways.index, vector_of) if b"search_pipeline" not in pair[0]]
    answers = [ways.straight.post(f"/{ways.index}/_search", content=theirs, headers=JSON) for _, theirs in pairs]
    good = [(*pair, answer.json()) for pair, answer in zip(pairs, answers, strict=True) if answer.status_code == 200]
    mixed = [body for ours, theirs, _ in good for body in (ours, theirs)]
    responses = ways.through.post(f"/{ways.index}/_msearch", content=lines_of(mixed), headers=NDJSON).json()[
        "responses"
    ]
    assert len(responses) == len(mixed)
    for (ours, _, straight), first, second in zip(good, responses[::2], responses[1::2], strict=True):
        assert first.pop("ext")["lrem"]["route"] == "direct"
        assert without_times({**first, "status": 0}) == without_times({**second, "status": 0}), ours
        assert without_times({**first, "status": 0}) == without_times({**straight, "status": 0}), ours


PLAIN = b'{"query":{"match":{"title":"bag"}},"size":2}'
NEAR = b'{"query":{"neural":{"lrem_vector":{"query_text":"red leather bag","k":3}}}}'


def _chunks(body: bytes) -> Iterator[bytes]:
    yield from (body[at : at + 7] for at in range(0, len(body), 7))


WAYS_TO_ASK: list[tuple[str, str, dict[str, Any]]] = [
    ("GET", "/INDEX/_search", {"content": PLAIN, "headers": JSON}),
    ("GET", "/INDEX/_search", {}),
    ("POST", "/INDEX/_search", {}),
    ("POST", "/INDEX/_search", {"content": b"", "headers": JSON}),
    ("POST", "/INDEX/_search", {"content": PLAIN, "headers": NDJSON}),
    ("POST", "/INDEX/_search", {"content": PLAIN}),
    ("POST", "/INDEX/_search", {"content": PLAIN, "headers": {"content-type": "application/json; charset=UTF-8"}}),
    ("POST", "/INDEX/_search", {"content": PLAIN, "headers": {"content-type": "APPLICATION/JSON"}}),
    ("POST", "/INDEX/_search", {"content": PLAIN, "headers": {"content-type": "text/json"}}),
    ("POST", "/INDEX/_search", {"content": PLAIN, "headers": {"content-type": "json"}}),
    ("POST", "/INDEX/_search", {"content": PLAIN, "headers": {"content-type": "application/smile;json"}}),
    ("POST", "/INDEX/_search", {"content": PLAIN, "headers": {"content-type": "application/x-www-form-urlencoded"}}),
    ("POST", "/INDEX/_search", {"content": gzip.compress(PLAIN), "headers": JSON | {"content-encoding": "gzip"}}),
    ("POST", "/INDEX/_search", {"content": PLAIN, "headers": JSON | {"content-encoding": "identity"}}),
    ("POST", "/INDEX/_search/", {"content": PLAIN, "headers": JSON}),
    ("POST", "/%INDEX/_search", {"content": PLAIN, "headers": JSON}),
    ("POST", "/INDEX,INDEX/_search", {"content": PLAIN, "headers": JSON}),
    ("GET", "/INDEX/_search?size=1;from=2", {}),
    ("GET", "/INDEX/_search?size=1&&from=2&", {}),
    ("GET", "/INDEX/_search?size=1&size=2", {}),
    ("GET", "/INDEX/_search?x=%zz", {}),
    ("GET", "/INDEX/_search?q=title:bag&df=title&x=%ff", {}),
    ("GET", "/INDEX/_search?q=title:b%C3%A4g%20%26&lenient=true&size=1", {}),
    ("GET", "/INDEX/_search?sort=price:desc,id&_source_includes=title,price&size=2&track_total_hits=false", {}),
    ("GET", "/INDEX/_search?preference=%22%7B%7D%7C%5E&size=1", {}),
    ("GET", "/INDEX/_search?" + "x" * 5000, {}),
    ("GET", "/INDEX/_search?source=%7B%22size%22%3A1%7D", {}),
    ("GET", "/INDEX/_search?source=%7B%22size%22%3A1%7D&source_content_type=application/json", {}),
    ("GET", "/INDEX/_search?source=size%3A+1&source_content_type=application/yaml", {}),
    ("GET", "/INDEX/_search?q=bag&source=%7B%22size%22%3A1%7D&source_content_type=application/json", {}),
    ("GET", "/INDEX/_search?pretty&human&format=yaml&filter_path=-took", {}),
    ("GET", "/INDEX/_search?filter_path=-hits.hits,took&typed_keys", {}),
    ("GET", "/INDEX/_search?index=INDEX-secret&size=1", {}),
    ("GET", "/INDEX/_search?filter_path=-took", {"headers": {"accept": "application/smile"}}),
    ("GET", "/INDEX/_search?size=1", {"headers": {"x-opaque-id": "7", "x-forwarded-for": "1.2.3.4"}}),
    ("GET", "/INDEX/_search?error_trace=true&size=-1", {}),
    ("GET", "/INDEX/_msearch", {"content": lines_of([PLAIN]), "headers": NDJSON}),
    ("POST", "/INDEX/_msearch/", {"content": lines_of([PLAIN]), "headers": JSON}),
    (
        "POST",
        "/INDEX/_msearch",
        {"content": gzip.compress(lines_of([PLAIN])), "headers": NDJSON | {"content-encoding": "gzip"}},
    ),
]


@pytest.mark.parametrize("number", range(len(WAYS_TO_ASK)), ids=lambda number: WAYS_TO_ASK[number][1][:60])
def test_however_a_search_is_sent_the_answer_is_opensearchs(ways: Ways, number: int) -> None:
    method, path, asked = WAYS_TO_ASK[number]
    encoded = f"%{ord(ways.index[0]):02x}{ways.index[1:]}"
    path = path.replace("%INDEX", encoded).replace("INDEX", ways.index)
    asked = {"headers": {"accept": "*/*", "accept-encoding": "identity"}} | asked
    assert same(ways.through.request(method, path, **asked)) == same(ways.straight.request(method, path, **asked))


@pytest.mark.parametrize("body", [PLAIN, NEAR])
def test_a_body_in_pieces_or_compressed_is_the_same_body(ways: Ways, body: bytes) -> None:
    path = f"/{ways.index}/_search"
    whole = ways.through.post(path, content=body, headers=JSON)
    pieces = ways.through.post(path, content=_chunks(body), headers=JSON)
    packed = ways.through.post(path, content=gzip.compress(body), headers=JSON | {"content-encoding": "gzip"})
    with_get = ways.through.request("GET", path, content=body, headers=JSON)
    in_url = ways.through.get(path, params={"source": body.decode(), "source_content_type": "application/json"})
    for answer in (pieces, packed, with_get, in_url):
        assert answer.status_code == 200
        assert answer.json()["hits"] == whole.json()["hits"]
        assert ("ext" in answer.json()) == (body == NEAR)


REFUSED = [
    ("POST", "/INDEX/_search?scroll=1m", 400, "scroll"),
    ("POST", "/INDEX/_search?size=1;scroll=1m", 400, "scroll"),
    ("POST", "/_search/scroll", 404, "path_not_served"),
    ("DELETE", "/_search/scroll", 404, "path_not_served"),
    ("POST", "/_search", 404, "path_not_served"),
    ("POST", "/INDEX/_msearch/template", 404, "path_not_served"),
    ("POST", "/_msearch/template", 404, "path_not_served"),
    ("POST", "/INDEX/_search/template", 404, "path_not_served"),
    ("POST", "/INDEX/_search/point_in_time?keep_alive=1m", 404, "path_not_served"),
    ("POST", "/INDEX/_count", 404, "path_not_served"),
    ("GET", "/INDEX/_validate/query", 404, "path_not_served"),
    ("GET", "/INDEX/_explain/p01", 404, "path_not_served"),
    ("GET", "/INDEX/_doc/p01", 404, "path_not_served"),
    ("DELETE", "/INDEX", 404, "path_not_served"),
    ("PUT", "/INDEX/_search", 405, "method_not_allowed"),
    ("DELETE", "/INDEX/_msearch", 405, "method_not_allowed"),
    ("OPTIONS", "/INDEX/_search", 405, "method_not_allowed"),
]


@pytest.mark.parametrize(("method", "path", "status", "told_as"), REFUSED)
def test_what_is_not_served_is_said(ways: Ways, method: str, path: str, status: int, told_as: str) -> None:
    headers = {"origin": "http://elsewhere", "access-control-request-method": "POST"} if method == "OPTIONS" else {}
    answer = ways.through.request(method, path.replace("INDEX", ways.index), headers=headers)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert told_as in error["type"] + error["reason"]
    assert answer.headers["x-request-id"] == error["request_id"]
    assert not [name for name in answer.headers if name.startswith("access-control")]
    if status == 405:
        assert answer.headers["allow"] == "GET, POST"


ATTACKS: list[tuple[str, str, bytes, dict[str, str]]] = [
    *(
        ("POST", f"/{name}/_search", b"{}", JSON)
        for name in (
            *("INDEX-secret", "INDEX*", "*", "_all", "INDEX,INDEX-secret", "INDEX-secret,INDEX", "%2A", "INDEX%2A"),
            *("INDEX%2CINDEX-secret", "INDEX,-none,*", "-none", "INDEX-secre%74", "%3CINDEX-secret%3E", "INDEX,", ","),
            *("INDEX%2F..%2FINDEX-secret", "INDEX%3F", "INDEX%00,INDEX-secret", ".", "..", "INDEX%20,*"),
        )
    ),
    ("POST", "/INDEX/../INDEX-secret/_search", b"{}", JSON),
    ("POST", "//INDEX-secret/_search", b"{}", JSON),
    ("POST", "/_search", b"{}", JSON),
    ("GET", "/INDEX/_search?index=INDEX-secret", b"", {}),
    ("GET", "/INDEX/_search?index=INDEX-secret;index=INDEX-secret", b"", {}),
    *(
        ("POST", path, header + b"\n{}\n", kind)
        for path in ("/_msearch", "/INDEX/_msearch", "/INDEX/_msearch?index=INDEX-secret", "/_msearch?index=INDEX")
        for kind in (JSON, NDJSON)
        for header in (
            *(b'{"index":"INDEX-secret"}', b'{"index":["INDEX-secret"]}', b'{"indices":"INDEX-secret"}'),
            *(b'{"index":[]}', b'{"index":""}', b'{"index":[""]}', b'{"index":null,"indices":"*"}'),
            *(b'{"index":"INDEX","indices":[]}', b'{"indices":[],"index":"INDEX"}', b'{"index":"INDEX","index":"*"}'),
            *(b'{"index":"INDEX,*"}', b'{"index":["INDEX","*"]}', b'{"ind\\u0065x":"*"}', b'{"index":"\\u002a"}'),
            *(b'{"index":"INDEX"}\n{}\n{"index":"*"}', b'\n{"index":"*"}', b'{"index":"_all"}', b'{"index":"-x,*"}'),
        )
    ),
    ("POST", "/_msearch", b"{}\n{}\n", JSON),
    ("POST", "/_msearch?index=INDEX-secret", b"{}\n{}\n", JSON),
    ("POST", "/_msearch", b"\n{}\n", JSON),
    (
        "POST",
        "/_msearch",
        b":)\n\x00\xfa\x84index\x4bINDEX-secret\xfb\xff{}\xff",
        {"content-type": "application/smile;json"},
    ),
    ("POST", "/_msearch", b'{"index":"*"}\xff{}\xff', {"content-type": "application/smile"}),
    ("POST", "/_msearch", b'{"index":"*"}\n{}\n', {"content-type": "text/plain"}),
    ("POST", "/_msearch", b'{"index":"*"}\n{}\n', {}),
    ("POST", "/_msearch", gzip.compress(b'{"index":"*"}\n{}\n'), JSON | {"content-encoding": "gzip"}),
    ("POST", "/_msearch", gzip.compress(b'{"index":"*"}\n{}\n'), JSON | {"content-encoding": "x-gzip"}),
    (
        "POST",
        "/_msearch",
        gzip.compress(b"") + gzip.compress(b'{"index":"*"}\n{}\n'),
        JSON | {"content-encoding": "gzip"},
    ),
    *(
        (
            "GET",
            f"/_msearch?{first}source=%7B%22index%22%3A%22*%22%7D%0A%7B%7D%0A{then}source_content_type={kind}",
            b"",
            {},
        )
        for first, then in (("", "&"), ("pretty;", ";"), ("pretty&", "&"))
        for kind in ("application/json", "application/x-ndjson", "json", "text/plain")
    ),
]


def test_access_never_widens(ways: Ways) -> None:
    def filled(value: Any) -> Any:
        return (
            value.replace(b"INDEX", ways.index.encode())
            if isinstance(value, bytes)
            else value.replace("INDEX", ways.index)
        )

    straight = ways.straight.post(f"/{ways.index}*/_search?size=50", content=b"{}", headers=JSON)
    assert SECRET in straight.text
    statuses: dict[int, int] = {}
    for method, path, body, headers in ATTACKS:
        packed = headers.get("content-encoding", "").endswith("gzip")
        content = body if packed else filled(body)
        # bytes, so that the path goes out as it is written here
        url = httpx.URL(ways.through.base_url).copy_with(raw_path=filled(path).encode())
        answer = ways.through.request(method, url, content=content, headers=headers)
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert SECRET not in answer.text, (method, path, body)
        assert answer.status_code < 500, (method, path, body, answer.text)
    print(f"{len(ATTACKS)} attempts: {statuses}")
