"""An OpenSearch that lives in this process and fails on demand: what the ingest uses of the API, over real HTTP.

It keeps to the node where the ingest could tell the difference: writes are visible after a refresh, a bulk request
answers item by item, an index that is written to and missing is made bare. ``tests/contract`` runs the same tests here
and on a real node, so that it does not drift from it.
"""

from __future__ import annotations

import gzip
import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakes.listening import Listening

Body = dict[str, Any]
Answer = tuple[int, Any]


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    params: Mapping[str, str]
    body: bytes
    headers: Mapping[str, str]  # names in lower case

    @property
    def action(self) -> str:
        """Last part of the path: ``_bulk``, ``_mget``, …."""
        return self.path.rsplit("/", 1)[-1]

    @property
    def ids(self) -> list[str]:
        """Ids in a bulk request."""
        lines = [json.loads(line) for line in self.body.splitlines()[::2]]
        return [next(iter(line.values()))["_id"] for line in lines]


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    Args:
        status: HTTP status to answer with; ``None``: none of that.
        headers: Sent with it.
        drop: Close the connection without an answer.
        delay_s: Wait before anything else.
        applied: Do what was asked for all the same: only the answer is lost.
        body: In place of an error object.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False
    delay_s: float = 0.0
    applied: bool = False
    body: bytes | None = None


def times(count: int, fault: Fault, action: str = "_bulk") -> Callable[[Request], Fault | None]:
    """Return what strikes the first ``count`` requests of an action and none after."""
    lock, left = threading.Lock(), [count]

    def decide(request: Request) -> Fault | None:
        with lock:
            if request.action != action or left[0] <= 0:
                return None
            left[0] -= 1
            return fault

    return decide


@dataclass
class Index:
    """One index: what was written, and what a search sees of it."""

    mapping: Body
    settings: Body
    aliases: set[str]
    written: dict[str, Body] = field(default_factory=dict)
    visible: dict[str, Body] = field(default_factory=dict)
    is_closed: bool = False

    def refresh(self) -> None:
        self.visible = dict(self.written)

    def wrote(self) -> None:
        if self.settings.get("refresh_interval") != "-1":
            self.refresh()


class FakeOpenSearch(Listening):
    """The server. Use as a context manager.

    Attributes:
        fault: Asked about every request.
        item_status: Asked about every document of a bulk request: a status of 300 or more turns it away.
        templates: Composable index templates, by name.
        requests: Everything that was asked for, in order of arrival.
        num_bulk: Bulk requests that are being answered.
        num_bulk_at_once: The most bulk requests that were answered at the same time.
    """

    def __init__(self) -> None:
        self.indices: dict[str, Index] = {}
        self.templates: dict[str, Body] = {}
        self.fault: Callable[[Request], Fault | None] = lambda _request: None
        self.item_status: Callable[[str], int | None] = lambda _doc_id: None
        self.version, self.distribution = "3.6.0", "opensearch"
        self.requests: list[Request] = []
        self.num_bulk_at_once = 0
        self.num_bulk = 0
        self._scrolls: dict[str, Iterator[list[Body]]] = {}
        self._lock = threading.RLock()
        server = _Server(("127.0.0.1", 0), _Handler)
        server.fake = self
        super().__init__(server)

    def bulks(self) -> list[Request]:
        """Return the bulk requests so far."""
        return [request for request in self.requests if request.action == "_bulk"]

    def behind(self, alias: str) -> list[str]:
        """Return the indices that an alias points to."""
        return [name for name, index in self.indices.items() if alias in index.aliases]

    def forget_scrolls(self) -> None:
        """Lose them, as a restart does."""
        with self._lock:
            self._scrolls.clear()

    def answer(self, request: Request) -> Answer:
        """Return status and body."""
        for methods, pattern, handle in self._routes():
            if request.method in methods.split() and (match := re.fullmatch(pattern, request.path)):
                with self._lock:
                    return handle(request, *match.groups())
        return _error(400, "no_handler", f"no handler for {request.method} {request.path}")

    @contextmanager
    def counted(self, request: Request) -> Iterator[None]:
        """Note a request, and how many bulk requests are being answered."""
        self.requests.append(request)
        is_bulk = request.action == "_bulk"
        with self._lock:
            self.num_bulk += is_bulk
            self.num_bulk_at_once = max(self.num_bulk_at_once, self.num_bulk)
        try:
            yield
        finally:
            with self._lock:
                self.num_bulk -= is_bulk

    def _routes(self) -> list[tuple[str, str, Callable[..., Answer]]]:
        return [
            ("GET", "/", lambda _request: (200, self._info())),
            ("GET", "/_cluster/health/([^/]+)", lambda _request, _name: (200, {"initializing_shards": 0})),
            ("GET", "/_cat/plugins", lambda _request: (200, [{"component": "opensearch-knn"}])),
            ("POST", "/_aliases", self._update_aliases),
            ("POST", "/_search/scroll", self._scroll),
            ("DELETE", "/_search/scroll", self._clear_scroll),
            ("POST PUT", "/([^/]+)/_bulk", self._bulk),
            ("POST GET", "/([^/]+)/_mget", self._mget),
            ("POST GET", "/([^/]+)/_search", self._search),
            ("POST GET", "/([^/]+)/_count", lambda _request, name: self._count(name)),
            ("POST GET", "/([^/]+)/_refresh", self._refresh),
            ("POST", "/([^/]+)/_close", self._close),
            ("PUT", "/([^/]+)/_mapping", self._put_mapping),
            ("PUT", "/([^/]+)/_settings", self._put_settings),
            ("HEAD", "/_index_template/([^/]+)", lambda _request, name: (200 if name in self.templates else 404, {})),
            ("PUT POST", "/_index_template/([^/]+)", self._put_template),
            ("GET", "/([^/]+)", self._get),
            ("PUT", "/([^/]+)", self._create),
            ("DELETE", "/([^/]+)", self._delete),
        ]

    def _info(self) -> Body:
        return {"version": {"number": self.version, "distribution": self.distribution}}

    def _find(self, name: str) -> Index | None:
        found = [index for key, index in self.indices.items() if key == name or name in index.aliases]
        return found[0] if found else None

    def _get(self, request: Request, names: str) -> Answer:
        answer = {}
        for pattern in names.split(","):
            for name, index in self.indices.items():
                if index.is_closed and name != pattern and request.params.get("expand_wildcards") != "all":
                    continue
                if fnmatchcase(name, pattern) or any(fnmatchcase(alias, pattern) for alias in index.aliases):
                    answer[name] = {
                        "aliases": {alias: {} for alias in index.aliases},
                        "mappings": index.mapping,
                        "settings": {"index": {key: str(value) for key, value in index.settings.items()}},
                    }
        if not answer and request.params.get("ignore_unavailable") != "true":
            return _error(404, "index_not_found_exception", f"no such index [{names}]")
        return 200, answer

    def _create(self, request: Request, name: str) -> Answer:
        if name in self.indices:
            return _error(400, "resource_already_exists_exception", f"index [{name}] already exists")
        body = json.loads(request.body or b"{}")
        settings = dict(body.get("settings", {}).get("index", {}))
        mapping = body.get("mappings") or self._template_mapping(name)
        self.indices[name] = Index(mapping, settings, set(body.get("aliases", {})))
        return 200, {"acknowledged": True}

    def _put_template(self, request: Request, name: str) -> Answer:
        self.templates[name] = json.loads(request.body)
        return 200, {"acknowledged": True}

    def _template_mapping(self, name: str) -> Body:
        for template in self.templates.values():
            if any(fnmatchcase(name, pattern) for pattern in template["index_patterns"]):
                mapping: Body = template["template"]["mappings"]
                return mapping
        return {}

    def _delete(self, _request: Request, name: str) -> Answer:
        if name not in self.indices:
            return _error(404, "index_not_found_exception", f"no such index [{name}]")
        del self.indices[name]
        return 200, {"acknowledged": True}

    def _close(self, _request: Request, name: str) -> Answer:
        self.indices[name].is_closed = True
        return 200, {"acknowledged": True}

    def _put_mapping(self, request: Request, name: str) -> Answer:
        index = self._find(name)
        if index is None:
            return _error(404, "index_not_found_exception", f"no such index [{name}]")
        body = json.loads(request.body)
        properties = {**index.mapping.get("properties", {}), **body.pop("properties", {})}
        index.mapping = {**index.mapping, **body, **({"properties": properties} if properties else {})}
        return 200, {"acknowledged": True}

    def _put_settings(self, request: Request, name: str) -> Answer:
        index = self._find(name)
        if index is None:
            return _error(404, "index_not_found_exception", f"no such index [{name}]")
        merged = index.settings | json.loads(request.body)["index"]
        index.settings = {key: value for key, value in merged.items() if value is not None}
        index.wrote()
        return 200, {"acknowledged": True}

    def _refresh(self, _request: Request, name: str) -> Answer:
        index = self._find(name)
        if index is None:
            return _error(404, "index_not_found_exception", f"no such index [{name}]")
        index.refresh()
        return 200, {"_shards": {"failed": 0}}

    def _update_aliases(self, request: Request) -> Answer:
        actions = [pair for action in json.loads(request.body)["actions"] for pair in action.items()]
        for _verb, what in actions:
            if what.get("must_exist") and what["alias"] not in self.indices[what["index"]].aliases:
                return _error(404, "aliases_not_found_exception", f"aliases [{what['alias']}] missing")
        for verb, what in actions:
            aliases = self.indices[what["index"]].aliases
            (aliases.add if verb == "add" else aliases.discard)(what["alias"])
        return 200, {"acknowledged": True}

    def _count(self, name: str) -> Answer:
        index = self._find(name)
        if index is None:
            return _error(404, "index_not_found_exception", f"no such index [{name}]")
        return 200, {"count": len(index.visible)}

    def _mget(self, request: Request, name: str) -> Answer:
        index = self._find(name)
        documents = []
        for doc_id in json.loads(request.body)["ids"]:
            source = index.visible.get(doc_id) if index is not None else None
            entry: Body = {"_index": name, "_id": doc_id, "found": source is not None}
            if source is not None and request.params.get("_source") != "false":
                entry["_source"] = source
            if source is not None and "lrem_hash" in source:
                entry["fields"] = {"lrem_hash": [source["lrem_hash"]]}
            documents.append(entry)
        return 200, {"docs": documents}

    def _search(self, request: Request, name: str) -> Answer:
        index = self._find(name)
        if index is None:
            return _error(404, "index_not_found_exception", f"no such index [{name}]")
        body = json.loads(request.body or b"{}")
        ids, size = list(index.visible), body.get("size", 10)
        with_source = body.get("_source", True) is not False
        hits = [{"_id": doc_id, **({"_source": index.visible[doc_id]} if with_source else {})} for doc_id in ids]
        pages = iter([hits[start : start + size] for start in range(0, len(hits), size)])
        scroll_id = f"scroll-{len(self._scrolls)}-{time.monotonic_ns()}"
        self._scrolls[scroll_id] = pages
        return 200, {"_scroll_id": scroll_id, "hits": {"hits": next(pages, [])}}

    def _scroll(self, request: Request) -> Answer:
        scroll_id = json.loads(request.body)["scroll_id"]
        if scroll_id not in self._scrolls:
            return _error(
                404, "search_phase_execution_exception", "all shards failed", "search_context_missing_exception"
            )
        return 200, {"_scroll_id": scroll_id, "hits": {"hits": next(self._scrolls[scroll_id], [])}}

    def _clear_scroll(self, request: Request) -> Answer:
        for scroll_id in json.loads(request.body)["scroll_id"]:
            self._scrolls.pop(scroll_id, None)
        return 200, {"succeeded": True}

    def _bulk(self, request: Request, name: str) -> Answer:
        index = self._find(name)
        if index is None:  # as a cluster does that may create indices by itself
            index = self.indices[name] = Index({}, {"number_of_shards": 1}, set())
        items, lines = [], iter(request.body.split(b"\n"))
        for line in lines:
            if not line:
                continue
            ((verb, what),) = json.loads(line).items()
            source = json.loads(next(lines)) if verb == "index" else None
            items.append({verb: {"_id": what["_id"], **self._write(index, what["_id"], source)}})
        index.wrote()
        failed = any(next(iter(item.values()))["status"] >= 300 for item in items if "delete" not in item)
        return 200, {"took": 1, "errors": failed, "items": items}

    def _write(self, index: Index, doc_id: str, source: Body | None) -> Body:
        if (status := self.item_status(doc_id)) is not None and status >= 300:
            return {"status": status, "error": {"type": "scripted", "reason": f"status {status} was asked for"}}
        if source is None:
            return {"status": 200 if index.written.pop(doc_id, None) is not None else 404}
        reason = _wrong(index.mapping.get("properties", {}), source)
        if reason:
            return {"status": 400, "error": {"type": "mapper_parsing_exception", "reason": reason}}
        index.written[doc_id] = source
        return {"status": 201}


def _wrong(properties: Mapping[str, Any], source: Mapping[str, Any]) -> str | None:
    """Return why a document breaks the mapping."""
    for name, value in source.items():
        if name in ("_id", "_source", "_index", "_routing"):
            return f"failed to parse field [{name}]: a metadata field cannot be added inside a document"
        if not name.strip("."):
            return "field name cannot be an empty string"
        kind = properties.get(name, {})
        if kind.get("type") in ("text", "keyword", "double") and isinstance(value, dict):
            return f"failed to parse field [{name}] of type [{kind['type']}]"
        if kind.get("type") == "flat_object" and value is not None and not isinstance(value, dict):
            return f"failed to parse field [{name}] of type [flat_object]"
        if kind.get("type") == "knn_vector" and len(value) != kind["dimension"]:
            return f"Vector dimension mismatch. Expected: {kind['dimension']}, Given: {len(value)}"
    return None


def _error(status: int, kind: str, reason: str, cause: str | None = None) -> Answer:
    error: Body = {"type": kind, "reason": reason, "root_cause": [{"type": kind, "reason": reason}]}
    if cause is not None:
        error["caused_by"] = {"type": cause, "reason": cause}
    return status, {"error": error, "status": status}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64
    fake: FakeOpenSearch


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 30

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:  # the client went away, as it may
            self.close_connection = True

    def _serve(self) -> None:
        fake: FakeOpenSearch = self.server.fake  # type: ignore[attr-defined]
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # the client was killed while it wrote: it asked for nothing
            self.close_connection = True
            return
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        parts = urlsplit(self.path)
        params = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, unquote(parts.path), params, body, headers)
        with fake.counted(request):  # ends before the client can know: its next request is not counted beside this one
            fault = fake.fault(request) or Fault()
            time.sleep(fault.delay_s)
            answer = fake.answer(request) if fault.applied or not (fault.drop or fault.status) else (0, None)
        self._answer(answer, fault)

    def _answer(self, answer: Answer, fault: Fault) -> None:
        if fault.drop:
            self.close_connection = True
        elif fault.status is not None:
            error = _error(fault.status, "scripted_exception", f"status {fault.status} was asked for")[1]
            self._send(fault.status, error if fault.body is None else fault.body, fault.headers)
        else:
            self._send(*answer)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve

    def _send(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if isinstance(body, bytes) else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
