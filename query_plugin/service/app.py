"""The HTTP service: routes, and the table that turns every error into an answer. What decides is elsewhere."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Body, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Match

from lrem_os import __version__
from lrem_os.config import Settings
from lrem_os.errors import LremError, Overloaded
from lrem_os.query_plugin.engine.engine import EngineState
from lrem_os.query_plugin.engine.reading import OVERLOADED, Reading
from lrem_os.query_plugin.engine.several import Engine, Engines
from lrem_os.query_plugin.service import report
from lrem_os.query_plugin.service import schemas as s
from lrem_os.query_plugin.service.call import Call, params_of
from lrem_os.query_plugin.service.edge import Edge
from lrem_os.query_plugin.service.gateway import Gateway
from lrem_os.query_plugin.service.metrics import Metrics
from lrem_os.query_plugin.service.problems import Problem, bad_request, internal, not_served, overloaded
from lrem_os.query_plugin.service.readers import Readers
from lrem_os.query_plugin.service.ubi import Ubi
from lrem_os.query_plugin.service.upstream import Upstream
from lrem_os.query_plugin.service.versions import Versions
from lrem_os.query_plugin.service.wire import Answer
from lrem_os.types import Vectors

_PING_S = 2.0  # of the health check: well under what orchestrators wait
_MODEL = "lrem-os"  # what answers call the model unless the request named one
_log = logging.getLogger("lrem_os.serve")

_OPENAI: Any = {"4XX": {"model": s.OpenAIProblem}, "5XX": {"model": s.OpenAIProblem}}
_OPENSEARCH: Any = {"4XX": {"model": s.OpenSearchProblem}, "5XX": {"model": s.OpenSearchProblem}}
_HEALTH: Any = {503: {"model": s.Health}}
_ANY_OBJECT = {"application/json": {"schema": {"type": "object"}}}
_LINES = {"application/x-ndjson": {"schema": {"type": "string"}}}
_ANSWER: Any = {200: {"description": "OpenSearch's answer, with ext.lrem added.", "content": _ANY_OBJECT}}


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the routes work with."""

    engine: Engine
    upstream: Upstream
    gateway: Gateway
    readers: Readers
    settings: Settings
    metrics: Metrics
    ubi: Ubi | None


def create_app(engine: Engine, upstream: Upstream, settings: Settings) -> Edge:
    """Return the service as an ASGI application; its end closes the engine and the connections.

    Args:
        engine: Reads queries.
        upstream: The cluster.
        settings: The configuration.
    """
    metrics = Metrics()

    async def send_own(method: str, path: str, body: bytes) -> Answer:
        kind = [(b"content-type", b"application/x-ndjson" if path == "/_bulk" else b"application/json")]
        return await upstream.send(method, path, headers=kind, body=body, own_credentials=True)

    budget = settings.route.share if settings.route.budget == "share" else None
    ubi = Ubi(settings.serve, send_own, metrics, budget=budget) if settings.serve.ubi else None

    async def ask_own(path: str, query: str) -> Answer:
        return await upstream.send("GET", path, query, own_credentials=True)

    versions = None
    if isinstance(engine, Engines):
        patterns = settings.serve.indices or (settings.index.name,)
        versions = Versions(ask_own, patterns, engine.by_model, engine.configured)
    gateway = Gateway(engine, upstream, settings, metrics, ubi, versions)
    parts = _Parts(engine, upstream, gateway, Readers(engine, metrics, versions), settings, metrics, ubi)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if ubi is not None:
            ubi.start()
        try:
            yield
        finally:
            if ubi is not None:
                await ubi.aclose()
            if versions is not None:
                await versions.aclose()
            await engine.aclose()
            await upstream.aclose()

    app = FastAPI(
        title="lrem-os",
        version=__version__,
        summary="Reasoning-then-embedding search in front of OpenSearch.",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,
    )
    routers = (_health_routes(parts), _model_routes(parts), _ubi_routes(parts), _search_routes(parts))
    app.state.routes = [*app.routes, *(route for router in routers for route in router.routes)]
    for router in routers:
        app.include_router(router)
    for error, handler in _HANDLERS.items():
        app.add_exception_handler(error, handler)
    return Edge(app, settings.serve, metrics)


def _health_routes(parts: _Parts) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/live", responses=_HEALTH)
    async def live(response: Response) -> s.Health:
        """Tell whether the process does its work; 503: only a restart helps."""
        state = parts.engine.state()
        is_broken = state.embedder == "broken"
        response.status_code = 503 if is_broken else 200
        return s.Health(status="broken" if is_broken else "ok", embedder=state.embedder, reasoner=state.reasoner)

    @router.get("/ready", responses=_HEALTH)
    async def ready(response: Response) -> s.Health:
        """Tell whether searches can be answered: 503 while OpenSearch cannot be reached."""
        state = parts.engine.state()
        try:
            answer = await asyncio.wait_for(parts.upstream.send("GET", "/"), _PING_S)
            is_there = answer.status < 500  # 401 is an answer too
        except (Problem, TimeoutError):
            is_there = False
        response.status_code = 200 if is_there else 503
        return s.Health(
            status="ok" if is_there else "broken",
            opensearch="reachable" if is_there else "unreachable",
            embedder=state.embedder,
            reasoner=state.reasoner,
        )

    @router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}, **_OPENSEARCH})
    async def metrics() -> Response:
        """Return counters and histograms for Prometheus."""
        state = parts.engine.state()
        page = parts.metrics.page(_gauges(state), num_tasks=len(asyncio.all_tasks()), endpoints=state.endpoints)
        return Response(page, media_type=parts.metrics.content_type)

    return router


def _model_routes(parts: _Parts) -> APIRouter:
    router = APIRouter(prefix="/v1", tags=["models"], responses=_OPENAI)
    serve = parts.settings.serve
    # a bulk request in the cluster is many requests here at once: they wait for each other, where a full queue refuses
    turns = asyncio.Semaphore(max(1, serve.queue_limit // serve.embed_batch))

    async def read(texts: Sequence[str], route: Any) -> list[Reading]:
        longest = max(map(len, texts))
        if longest > parts.settings.serve.max_query_chars:
            limit = parts.settings.serve.max_query_chars
            raise bad_request(f"a query text of [{longest}] characters is longer than [{limit}]")
        [found] = await parts.readers.read([(parts.settings.index.name, [(text, route, None) for text in texts])])
        return [found.first[text] for text in texts]

    @router.post("/embeddings")
    async def embeddings(request: Annotated[s.EmbeddingRequest, Body()]) -> s.EmbeddingAnswer:
        """Embed texts: queries as searches are, with routing and reasoning; passages as products are at ingest."""
        texts = [request.input] if isinstance(request.input, str) else request.input
        told: list[dict[str, Any]] = []
        if request.input_type == "query":
            readings = await read(texts, request.route)
            vectors = [_vector_of(reading) for reading in readings]
            told = [report.described(reading) for reading in readings]
        else:
            async with turns:
                vectors = (await _passages(await _current(parts), texts)).tolist()
        if request.dimensions not in (None, len(vectors[0])):
            raise bad_request(f"[dimensions] is [{request.dimensions}]: the vectors have [{len(vectors[0])}]")
        rows = [
            s.EmbeddingRow(index=number, embedding=_encoded(vector) if request.encoding_format == "base64" else vector)
            for number, vector in enumerate(vectors)
        ]
        return s.EmbeddingAnswer(data=rows, model=request.model or _MODEL, lrem=told)

    @router.post("/route")
    async def route(request: Annotated[s.RouteRequest, Body()]) -> s.RouteAnswer:
        """Read a query as a search would, and tell what was decided and why; nothing is searched."""
        [reading] = await read([request.text], request.route)
        decision = None if reading.decision is None else report.decided(reading.decision, features=True)
        reasonings = [sample.text for sample in reading.reasonings]
        told = report.described(reading) | {"text": reading.text, "decision": decision, "reasonings": reasonings}
        return s.RouteAnswer(**told)

    return router


def _ubi_routes(parts: _Parts) -> APIRouter:
    router = APIRouter(prefix="/ubi", tags=["ubi"], responses=_OPENSEARCH)

    @router.post("/events", status_code=202)
    async def events(request: Annotated[s.UbiEvent | list[s.UbiEvent], Body()]) -> s.UbiAnswer:
        """Take events, one or a list; they are written to ubi_events in the background."""
        if parts.ubi is None:
            raise Problem(404, "ubi_disabled_exception", "behaviour is not recorded here: serve.ubi is off")
        all_of_them = request if isinstance(request, list) else [request]
        accepted = parts.ubi.events([event.model_dump(exclude_none=True) for event in all_of_them])
        return s.UbiAnswer(accepted=accepted, dropped=len(all_of_them) - accepted)

    return router


def _search_routes(parts: _Parts) -> APIRouter:
    router = APIRouter(tags=["search"], responses={**_ANSWER, **_OPENSEARCH}, default_response_class=Response)
    gateway = parts.gateway
    body: Any = {"requestBody": {"description": "As for OpenSearch.", "content": _ANY_OBJECT}}
    lines: Any = {"requestBody": {"description": "As for OpenSearch.", "content": _LINES, "required": True}}
    query: Any = {"parameters": [{"in": "query", "name": "q", "schema": {"type": "string"}}]}

    @router.get("/", operation_id="get_root")
    @router.head("/", operation_id="head_root")
    async def root(request: Request) -> Response:
        """Tell what OpenSearch tells about itself: clients ask for it when they start."""
        return _as_response(await gateway.info(await _call_of(request)))

    @router.get("/_msearch", operation_id="get_msearch")
    @router.post("/_msearch", operation_id="post_msearch", openapi_extra=lines)
    async def msearch(request: Request) -> Response:
        """Search several times: each as for /{index}/_search."""
        return _as_response(await gateway.msearch(await _call_of(request)))

    @router.get("/{index}/_msearch", operation_id="get_msearch_of_index")
    @router.post("/{index}/_msearch", operation_id="post_msearch_of_index", openapi_extra=lines)
    async def msearch_of_index(index: str, request: Request) -> Response:
        """Search several times, this index unless a header line names another."""
        return _as_response(await gateway.msearch(await _call_of(request, index)))

    @router.get("/{index}/_search", operation_id="get_search", openapi_extra=query)
    @router.post("/{index}/_search", operation_id="post_search", openapi_extra=body)
    async def search(index: str, request: Request) -> Response:
        """Search: neural clauses on our vector field are answered here, all else is OpenSearch's. ?q=… is hybrid."""
        return _as_response(await gateway.search(await _call_of(request, index)))

    return router


async def _call_of(request: Request, index: str = "") -> Call:
    query = request.scope["query_string"].decode("latin-1")
    return Call(request.method, index, query, params_of(query), request.headers.raw, await request.body())


def _as_response(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    length = (b"content-length", str(len(answer.body)).encode())
    response.raw_headers = [*answer.headers, length]
    return response


async def _current(parts: _Parts) -> Engine:
    """Return the engine whose model the configured index is from. Raises ``Problem`` where there is none."""
    if not isinstance(parts.engine, Engines):
        return parts.engine
    model = await parts.readers.model_of(parts.settings.index.name)
    if model is None:
        reason = f"the vectors of [{parts.settings.index.name}] are from a model that this service does not have"
        raise Problem(503, "model_unknown_exception", reason)
    found: Engine = parts.engine.by_model[model]
    return found


async def _passages(engine: Engine, texts: Sequence[str]) -> Vectors:
    try:
        return await engine.embed_passages(texts)
    except Overloaded as exc:
        raise overloaded("too many texts wait to be embedded") from exc
    except LremError as exc:
        _log.warning("passages were not embedded: %s", exc)
        raise Problem(503, "embedder_failed_exception", "the texts could not be embedded", retry_after_s=1) from exc


def _vector_of(reading: Reading) -> list[float]:
    if reading.vector is not None:
        return list(reading.vector)
    if not reading.degraded:
        raise bad_request("a blank text has no vector")
    if OVERLOADED in reading.degraded:
        raise overloaded("too many queries wait to be embedded")
    reasons = ", ".join(reading.degraded)
    raise Problem(503, "embedder_failed_exception", f"the query could not be embedded: {reasons}", retry_after_s=1)


def _encoded(vector: Sequence[float]) -> str:
    return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode()


def _gauges(state: EngineState) -> Mapping[str, float]:
    """Return the numbers of an engine's state, and 1 for each word of it."""
    told: dict[str, float] = {}
    for name, value in asdict(state).items():
        if isinstance(value, tuple):
            told |= {f"{name}_{number}": float(one) for number, one in enumerate(value)}
        elif name == "shared":
            told |= {f"{name}_{key}": float(one) for key, one in value.items()}
        elif isinstance(value, int):
            told[name] = float(value)
    return told | {
        "embedder_broken": float(state.embedder == "broken"),
        "reasoner_kept_away": float(state.reasoner in ("open", "broken")),
    }


def _shown(request: Request, problem: Problem) -> Response:
    request_id = request.scope["state"]["request_id"]
    is_openai = request.url.path.startswith("/v1/")
    told = problem.as_openai(request_id) if is_openai else problem.as_opensearch(request_id)
    return Response(orjson.dumps(told), problem.status, problem.headers, "application/json")


async def _on_problem(request: Request, exc: Exception) -> Response:
    return _shown(request, exc if isinstance(exc, Problem) else internal())


async def _on_http(request: Request, exc: Exception) -> Response:
    status = exc.status_code if isinstance(exc, HTTPException) else 500
    if status == 405:
        answer = _shown(request, Problem(405, "method_not_allowed_exception", f"[{request.method}] is not served here"))
        answer.headers["allow"] = ", ".join(_allowed_methods(request))  # RFC 9110, 15.5.6
        return answer
    return _shown(request, not_served(request.url.path) if status == 404 else bad_request("the body cannot be read"))


def _allowed_methods(request: Request) -> list[str]:
    routes = [route for route in request.app.state.routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in routes for method in route.methods})


async def _on_invalid(request: Request, exc: Exception) -> Response:
    errors = exc.errors() if isinstance(exc, RequestValidationError) else []
    told = "; ".join(f"[{'.'.join(map(str, error['loc'][1:]))}] {error['msg']}" for error in errors[:3])
    return _shown(request, bad_request(told or "the body cannot be read"))


_HANDLERS: Mapping[type[Exception], Any] = {
    Problem: _on_problem,
    HTTPException: _on_http,
    RequestValidationError: _on_invalid,
    Exception: _on_problem,  # raised again, so that the edge logs it
}
