"""``_search`` and ``_msearch`` between a client and OpenSearch.

What holds no clause of ours goes through as it came, bytes and all. What does is read by the engine, rewritten by
``neural.py``, and sent; the answer is OpenSearch's, with ``ext.lrem`` added. Credentials are the caller's.
"""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from lrem_os.config import Settings
from lrem_os.errors import QueryError
from lrem_os.query_plugin.engine.reading import Reading
from lrem_os.query_plugin.service import report
from lrem_os.query_plugin.service.asked import Asked, check_index, encode_index, from_body, from_headers, from_params
from lrem_os.query_plugin.service.call import Call, index_of_header, json_of, search_lines
from lrem_os.query_plugin.service.exact_json import NotReadable, depth, is_text, read, split_array, with_ext, write
from lrem_os.query_plugin.service.guarded import replace_knn
from lrem_os.query_plugin.service.metrics import Metrics
from lrem_os.query_plugin.service.neural import find_texts, holds_ours, rewrite
from lrem_os.query_plugin.service.problems import Problem, bad_request
from lrem_os.query_plugin.service.readers import Read, Reader, Readers, Wanted
from lrem_os.query_plugin.service.ubi import Ubi
from lrem_os.query_plugin.service.ubi_records import request_text
from lrem_os.query_plugin.service.upstream import Upstream
from lrem_os.query_plugin.service.versions import Versions
from lrem_os.query_plugin.service.wire import Answer
from lrem_os.search.requests import SearchSetup, build_body, text_query

_MAY_BE_OURS = (b"neural", b'"lrem"', b"\\u")  # \u: either could be written in escapes
_LUCENE = {"df", "analyzer", "analyze_wildcard", "default_operator", "lenient"}  # of q as OpenSearch itself reads it
_ERROR = re.compile(rb'\s*\{\s*"error"')
_NEWEST = (99, 0, 0)  # a server that cannot do what is configured says so itself


@dataclass(frozen=True, slots=True)
class _Search:
    """A search body that holds something of ours.

    Args:
        body: Without what was meant for us.
        texts: Of our clauses; none: only ``ext.lrem`` was there.
        asked: How to read them.
        ubi: What ``ext.ubi`` said, where queries are recorded.
        index: What is searched, where the path does not say it.
    """

    body: dict[str, Any]
    texts: Sequence[str]
    asked: Asked
    ubi: Mapping[str, Any] | None = None
    index: str = ""


_Answered = tuple[Answer, Sequence[Read]]
"""An answer, and what was made of the texts of each search in the request."""


class Gateway:
    """Passes searches on, and answers what is ours in them.

    Args:
        engine: Reads queries.
        upstream: The cluster.
        settings: Fields, limits, what is allowed.
        metrics: Counts.
        ubi: Records queries; none: they are not recorded.
        versions: Which model each index wants; none: the engine's vectors fit all.
    """

    def __init__(
        self,
        engine: Reader,
        upstream: Upstream,
        settings: Settings,
        metrics: Metrics,
        ubi: Ubi | None = None,
        versions: Versions | None = None,
    ) -> None:
        self._upstream, self._metrics, self._ubi = upstream, metrics, ubi
        self._readers = Readers(engine, metrics, versions)
        self._settings, self._limits = settings, settings.serve
        self._allowed = settings.serve.indices or (settings.index.name,)
        self._setup = SearchSetup(settings.catalog, settings.index, settings.search, _NEWEST)
        self._reasoned = replace(
            self._setup,
            search=settings.search.model_copy(update={"weights": settings.reasoning.weights}),
            text_boost=settings.reasoning.text_boost,
        )
        self._default = Asked(keywords=settings.serve.keywords, report=settings.serve.report)

    async def search(self, call: Call) -> Answer:
        """Answer ``/{index}/_search``.

        Raises:
            Problem: The index is not allowed, a limit is exceeded, or OpenSearch does not answer.
        """
        started = time.perf_counter()
        check_index(call.index, self._allowed)
        if call.param("scroll") is not None:
            raise bad_request("[scroll] is not served, its next pages could not be: use [search_after]")
        call, asked = self._asked(call)
        if call.param("q") is not None and call.is_empty and not _LUCENE & {name for name, _ in call.params}:
            return await self._configured(call, asked, started)
        data = json_of(call, self._limits.max_body_bytes)
        search = None if data is None else self._find(data, asked)
        if search is None:
            return await self._send(call, "_search")

        async def ask() -> _Answered:
            [found] = await self._read([search], call)
            sent = self._call_with(call, self._rewritten(search, found), [search], [found])
            return await self._send(sent, "_search"), [found]

        answer, [found] = await self._settled(ask)
        return self._told(answer, [(search, found.first)], call, started)

    async def info(self, call: Call) -> Answer:
        """Answer ``/``, which clients ask when they start: what OpenSearch says of itself to this caller."""
        return await self._send(call.without_ours(), "")

    async def msearch(self, call: Call) -> Answer:
        """Answer ``/_msearch`` and ``/{index}/_msearch``.

        Raises:
            Problem: An index is not allowed, a limit is exceeded, or OpenSearch does not answer.
        """
        started = time.perf_counter()
        if call.index:
            check_index(call.index, self._allowed)
        call, asked = self._asked(call)
        data = json_of(call, self._limits.max_body_bytes)
        lines, places = ([], range(0)) if data is None else search_lines(data)
        self._check_headers([lines[at - 1] for at in places], call.index, readable=data is not None or call.is_empty)
        found = {
            at: replace(search, index=_named(lines[at - 1]))
            for at in places
            if (search := self._find(lines[at], asked)) is not None
        }
        if sum(len(search.texts) for search in found.values()) > self._limits.max_queries:
            raise bad_request(f"the searches hold more than [{self._limits.max_queries}] query texts")
        if not found:
            return await self._send(call, "_msearch")
        searches = list(found.values())

        async def ask() -> _Answered:
            each = await self._read(searches, call)
            written = {at: self._rewritten(found[at], of_search) for at, of_search in zip(found, each, strict=True)}
            body = b"\n".join(written.get(at, line) for at, line in enumerate(lines))
            return await self._send(self._call_with(call, body, searches, each), "_msearch"), each

        answer, each = await self._settled(ask)
        readings = [of_search.first for of_search in each]
        numbered = {
            (at - places.start) // 2: pair for at, pair in zip(found, zip(searches, readings, strict=True), strict=True)
        }
        return self._told_each(answer, numbered, call, started)

    async def _configured(self, call: Call, asked: Asked, started: float) -> Answer:
        """Answer ``?q=…`` as ``lrem-os search`` asks: with the configured mode, fusion and fields."""
        text = call.param("q") or ""
        self._check_texts([text])
        start, size = _number(call, "from", 0), _number(call, "size", 10)
        search = _Search({}, [text], asked if self._settings.search.mode != "bm25" else replace(asked, route="bm25"))
        rest = call.with_params([(name, value) for name, value in call.params if name not in ("q", "from", "size")])

        async def ask() -> _Answered:
            [found] = await self._read([search], call)
            body = self._built(search, found, top_k=max(size, 1), start=start) | {"from": start, "size": size}
            return await self._send(self._call_with(rest, orjson.dumps(body), [search], [found]), "_search"), [found]

        answer, [found] = await self._settled(ask)
        return self._told(answer, [(search, found.first)], call, started)

    def _built(self, search: _Search, found: Read, *, top_k: int, start: int) -> dict[str, Any]:
        """Return the body that ``lrem-os search`` would send."""
        [text] = search.texts
        reading = found.first[text]
        setup = self._reasoned if reading.keywords and search.asked.keywords else self._setup
        mode = "bm25" if reading.vector is None else self._settings.search.mode
        try:
            body = build_body(setup, mode, text, reading.vector, top_k=top_k, start=start, keywords=reading.keywords)
        except QueryError as exc:
            raise bad_request(str(exc)) from exc
        if found.by_model is None:
            return body
        by_model, field = found.by_model, self._settings.index.vector_field
        words = None if mode == "hybrid" else text_query(setup, text)
        return {
            **body,
            "query": replace_knn(
                body["query"], field, lambda inside: by_model.clause(text, _without_vector(inside), field, words)
            ),
        }

    async def _settled(self, ask: Callable[[], Awaitable[_Answered]]) -> _Answered:
        """Return an answer; asked once more where the alias moved meanwhile to what was not expected."""
        answer, found = await ask()
        return await ask() if await self._readers.is_news(found, answer) else (answer, found)

    def _asked(self, call: Call) -> tuple[Call, Asked]:
        """Return the call without what was meant for us, and what that was."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in call.headers}
        asked, params = from_params(from_headers(self._default, headers), call.params)
        return call.with_params(params).without_ours(), asked

    def _find(self, data: bytes, asked: Asked) -> _Search | None:
        """Return what is ours in a search body; ``None``: nothing, it goes through as it came."""
        if not any(word in data for word in _MAY_BE_OURS):
            return None
        try:
            whole = read(data)
        except NotReadable:  # OpenSearch says what is wrong with it
            return None
        if not isinstance(whole, dict):
            return None
        if depth(whole) > self._limits.max_depth:
            if not holds_ours(whole, self._settings.index.vector_field):
                return None
            raise bad_request(f"the body is nested deeper than [{self._limits.max_depth}]")
        asked, body = from_body(asked, whole)
        texts = find_texts(body, self._settings.index.vector_field)
        if not texts:
            return None if body is whole else _Search(body, (), asked)
        self._check_texts(texts)
        if "pit" in body:
            raise bad_request("[pit] is not served with a neural clause: name an index, and use [search_after]")
        if self._ubi is None or not isinstance(body.get("ext"), dict) or not isinstance(body["ext"].get("ubi"), dict):
            return _Search(body, texts, asked)
        rest = {key: value for key, value in body["ext"].items() if key != "ubi"}
        without = {key: value for key, value in body.items() if key != "ext"} | ({"ext": rest} if rest else {})
        return _Search(without, texts, asked, body["ext"]["ubi"])

    def _check_texts(self, texts: Sequence[str]) -> None:
        if len(texts) > self._limits.max_queries:
            raise bad_request(f"the search holds more than [{self._limits.max_queries}] query texts")
        longest = max(map(len, texts))
        if longest > self._limits.max_query_chars:
            raise bad_request(f"a query text of [{longest}] characters is longer than [{self._limits.max_query_chars}]")
        if not all(map(is_text, texts)):
            raise bad_request("a query text holds half of a surrogate pair, which is no text")

    def _check_headers(self, lines: Sequence[bytes], index: str, *, readable: bool) -> None:
        """Raise unless every search of an ``_msearch`` names allowed indices."""
        if "*" in self._allowed:
            return
        if not readable:
            raise bad_request("the body of _msearch is not JSON lines, so its indices cannot be checked")
        for number, line in enumerate(lines, 1):
            try:
                named = index_of_header(read(line)) if line.strip() else None
            except ValueError as exc:
                raise bad_request(
                    f"the header of search [{number}] cannot be read, so its index cannot be checked"
                ) from exc
            for expression in named or ([index] if index else ["_all"]):
                check_index(expression, self._allowed)

    async def _read(self, searches: Sequence[_Search], call: Call) -> list[Read]:
        """Return what is made of the texts of every search."""
        wanted: list[tuple[str | None, list[Wanted]]] = []
        for search in searches:
            asked, index = search.asked, search.index or call.index
            texts: list[Wanted] = [(text, asked.route, asked.deadline_s) for text in search.texts]
            wanted.append((None if asked.route == "bm25" or not texts else index, texts))
        return await self._readers.read(wanted)

    def _rewritten(self, search: _Search, found: Read) -> bytes:
        setup = self._reasoned if search.asked.keywords else self._setup
        try:
            return write(rewrite(search.body, found.first, setup, found.by_model))
        except NotReadable as exc:
            raise bad_request(f"the body cannot be written again: {exc}") from exc

    def _call_with(self, call: Call, body: bytes, searches: Sequence[_Search], found: Sequence[Read]) -> Call:
        is_read = any(search.texts and (search.asked.report or self._ubi is not None) for search in searches)
        return call.with_body(body, plain_answer=is_read or any(read.targets is not None for read in found))

    async def _send(self, call: Call, action: str) -> Answer:
        path = f"/{encode_index(call.index)}/{action}" if call.index else f"/{action}"
        started = time.perf_counter()
        try:
            answer = await self._upstream.send(
                call.method,
                path,
                call.query,
                headers=call.headers,
                body=call.body,
                own_credentials=self._limits.own_credentials,
            )
        except Problem as exc:
            self._metrics.search_failed(exc.kind)
            raise
        self._metrics.searched(time.perf_counter() - started)
        return answer

    def _told(
        self, answer: Answer, done: Sequence[tuple[_Search, Mapping[str, Reading]]], call: Call, started: float
    ) -> Answer:
        """Return the answer to one search with what was done about it."""
        [(search, readings)] = done
        if not search.texts:
            return answer
        took_ms = (time.perf_counter() - started) * 1000
        told = self._recorded(search, readings, took_ms, call, answer.body) if answer.status < 300 else {}
        body = with_ext(answer.body, told) if told and search.asked.report and _can_add(answer, call) else answer.body
        headers = [*answer.headers, *report.headers(list(readings.values()), took_ms)]
        return Answer(answer.status, headers, body)

    def _told_each(
        self, answer: Answer, done: Mapping[int, tuple[_Search, Mapping[str, Reading]]], call: Call, started: float
    ) -> Answer:
        """Return the answers to several searches, each of ours with what was done about it."""
        done = {number: pair for number, pair in done.items() if pair[0].texts}
        if not done:
            return answer
        took_ms = (time.perf_counter() - started) * 1000
        told: dict[int, dict[str, Any]] = {}
        is_read = self._ubi is not None or any(search.asked.report for search, _ in done.values())
        parts = split_array(answer.body, "responses") if is_read and _can_add(answer, call) else None
        if answer.status < 300:
            each = [] if parts is None else parts[1]
            told = {
                number: self._recorded(search, readings, took_ms, call, each[number] if number < len(each) else b"")
                for number, (search, readings) in done.items()
            }
        told = {number: what for number, what in told.items() if done[number][0].asked.report}
        body = answer.body
        if parts is not None and told:
            before, answers, after = parts
            each = [with_ext(one, told[at]) if at in told and _is_hits(one) else one for at, one in enumerate(answers)]
            body = before + b",".join(each) + after
        every = [reading for _, readings in done.values() for reading in readings.values()]
        return Answer(answer.status, [*answer.headers, *report.headers(every, took_ms)], body)

    def _recorded(
        self, search: _Search, readings: Mapping[str, Reading], took_ms: float, call: Call, answer: bytes
    ) -> dict[str, Any]:
        """Record a search that was answered; return what to add under ``ext`` of its answer."""
        read_texts = list(readings.values())
        if self._ubi is None:
            return {"lrem": report.member(read_texts, took_ms)}
        query_id = self._ubi.query(read_texts, took_ms, search.ubi or {}, answer, _request_text(search, call))
        told = {"lrem": report.member(read_texts, took_ms, query_id)}
        return told if search.ubi is None else told | {"ubi": {"query_id": query_id}}


def _request_text(search: _Search, call: Call) -> str:
    """Return a search as the client sent it, as Dev Tools takes it, without what was meant for us."""
    index = encode_index(search.index or call.index)
    body = write(search.body) if search.body else b""
    return request_text("POST", f"{index}/_search" if index else "_search", "" if search.index else call.query, body)


def _named(header: bytes) -> str:
    """Return the index that the header of one search of an ``_msearch`` names; empty: none."""
    try:
        return ",".join(index_of_header(read(header)) or ())
    except ValueError:  # checked where it matters
        return ""


def _can_add(answer: Answer, call: Call) -> bool:
    """Return whether an answer is JSON as it is, and whole: a client that filters it wants nothing beside."""
    headers = dict(answer.headers)
    is_json = headers.get(b"content-type", b"").lower().startswith(b"application/json")
    return is_json and b"content-encoding" not in headers and call.param("filter_path") is None


def _is_hits(answer: bytes) -> bool:
    """Return whether one answer of ``_msearch`` is no error."""
    return _ERROR.match(answer) is None


def _number(call: Call, name: str, default: int) -> int:
    text = call.param(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise bad_request(f"[{name}] is [{text[:50]}]: a whole number is wanted")
    return int(text)


def _without_vector(inside: Mapping[str, Any]) -> dict[str, Any]:
    """Return what stands in a ``knn`` clause beside the vector."""
    return {key: value for key, value in inside.items() if key != "vector"}
