"""OpenAI-compatible servers, asked about many texts: time limits, retries, bounded concurrency, halved batches.

The requests run on an event loop in a thread of its own. Only a loop can end a request wherever it stands, be it
between retries or in an answer that trickles, and a caller with a loop of its own is not disturbed.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from lrem_os.errors import ModelError
from lrem_os.extras import require
from lrem_os.model.endpoints import Endpoint, Endpoints, EndpointState

T = TypeVar("T")
Ask = Callable[[Any, Sequence[str]], Awaitable[Sequence[T]]]
"""``ask(client, texts)``: one request to an ``openai.AsyncOpenAI``, one answer a text; may raise ``Refused``."""

_RETRIES = 2  # of one request, by the openai client: 408, 409, 429 (it waits as Retry-After says), 5xx, no connection
_THE_TEXT = {400, 413, 422}  # too long, or not allowed
_MAY_BE_ONE_TEXT = {*_THE_TEXT, 500}  # or what the server stumbles over
_LOOK_S = 2.0  # between looks whether a server that takes its time is there, and how long such a look may take
_NO_KEY = "none"  # the client wants one, and would look into the environment

_probes: set[asyncio.Task[None]] = set()  # a loop keeps no task alive by itself


class Refused(Exception):
    """The server cannot or will not answer about these texts; it may about others."""

    @property
    def for_the_text(self) -> bool:
        """Whether the server says that it is the text: it would say so again. Else it is rather the server."""
        return _status(self) in _THE_TEXT


class OpenAIClient:
    """Asks one server, or several with the same model. Safe to call from several threads.

    Of several servers the one is asked that is expected to answer first. What one fails on another is asked, within the
    same time; see ``lrem_os.model.endpoints`` for which are left alone.

    Args:
        url: Up to ``/v1``; several for several servers.
        api_key: Sent as bearer token; none: a placeholder is.
        timeout_s: Until a request is given up, its retries included.
        max_concurrency: Requests on their way to a server at once at most, over all callers.
        error: Raised when the servers fail as a whole.

    Raises:
        DependencyMissing: The extra ``remote`` is not installed.
    """

    def __init__(
        self,
        url: str | Sequence[str],
        *,
        api_key: str | None,
        timeout_s: float,
        max_concurrency: int,
        error: type[ModelError],
    ) -> None:
        self._openai: Any = require("openai", extra="remote")
        self._endpoints = Endpoints([url] if isinstance(url, str) else url)
        self._api_key = api_key or _NO_KEY
        self._timeout_s = timeout_s
        self._max_concurrency = max_concurrency * len(self._endpoints)
        self._error = error
        self._slots = asyncio.Semaphore(self._max_concurrency)
        self._has_answered = False
        self._starting = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, Any] | None = None

    @property
    def endpoints(self) -> tuple[EndpointState, ...]:
        """How each server is."""
        return self._endpoints.states

    def ask_all(self, ask: Ask[T], texts: Sequence[str], batch_size: int) -> list[T | Refused]:
        """Return one answer a text, in order. A batch that is refused is halved until the text at fault stands alone.

        Raises:
            ModelError: The server is not there, is too slow, or has refused every text so far.
        """
        if not texts:
            return []
        loop, client = self._start()
        future = asyncio.run_coroutine_threadsafe(self._ask_all(client, ask, texts, batch_size), loop)
        try:
            return future.result()
        finally:
            future.cancel()  # an interrupt ends the requests too

    def _start(self) -> tuple[asyncio.AbstractEventLoop, Any]:
        """Return loop and client; started when first needed, so that a process may fork before."""
        with self._starting:
            if self._running is None:
                loop = asyncio.new_event_loop()
                client = self._openai.AsyncOpenAI(
                    base_url=self._endpoints.states[0].url,  # every request names its own
                    api_key=self._api_key,
                    timeout=self._timeout_s,
                    max_retries=_RETRIES,
                )
                threading.Thread(target=_serve, args=(loop, client), name="lrem-openai", daemon=True).start()
                weakref.finalize(self, loop.call_soon_threadsafe, loop.stop)
                self._running = loop, client
            return self._running

    async def _ask_all(self, client: Any, ask: Ask[T], texts: Sequence[str], batch_size: int) -> list[T | Refused]:
        if len(self._endpoints) > 1:  # a batch that one server could take is answered sooner by all
            batch_size = min(batch_size, -(-len(texts) // max(1, self._endpoints.num_up)))
        starts = range(0, len(texts), batch_size)
        queue = deque((list(range(start, min(start + batch_size, len(texts)))), _RETRIES) for start in starts)
        found: dict[int, T | Refused] = {}
        workers = [
            asyncio.create_task(self._work(client, ask, texts, queue, found))
            for _ in range(min(self._max_concurrency, len(queue)))
        ]
        try:
            await asyncio.gather(*workers)  # raises what the first worker raises
        finally:
            for worker in workers:
                worker.cancel()
        answers = [found[row] for row in range(len(texts))]
        self._check_answered(answers)
        return answers

    async def _work(
        self,
        client: Any,
        ask: Ask[T],
        texts: Sequence[str],
        queue: deque[tuple[list[int], int]],
        found: dict[int, T | Refused],
    ) -> None:
        """Ask batch after batch; halves go back to the head of the queue."""
        while queue:
            rows, retries = queue.popleft()
            try:
                answers = await self._request(client, ask, [texts[row] for row in rows], retries)
                found.update(zip(rows, answers, strict=True))
            except Refused as exc:
                if len(rows) == 1:
                    found[rows[0]] = exc
                    continue
                if _status(exc) == 500:  # has been tried again; its halves are not, so that a dead server shows soon
                    retries = 0
                half = len(rows) // 2
                queue.extendleft([(rows[half:], retries), (rows[:half], retries)])

    async def _request(self, client: Any, ask: Ask[T], texts: Sequence[str], retries: int) -> Sequence[T]:
        """Return the answer to one request, from the first server that gives one.

        Raises:
            Refused: It may be the texts' fault.
            ModelError: It is the servers', or the configuration's.
        """
        for resting in self._endpoints.due():
            probing = asyncio.create_task(_probe(self._openai, self._endpoints, client, resting))
            probing.add_done_callback(_probes.discard)
            _probes.add(probing)
        async with self._slots:
            ends = asyncio.get_running_loop().time() + self._timeout_s
            failed: dict[Endpoint, Refused | ModelError] = {}
            while (endpoint := self._endpoints.choose(failed)) is not None:
                others = max(0, self._endpoints.num_up - endpoint.is_up - sum(one.is_up for one in failed))
                left_s = ends - asyncio.get_running_loop().time()
                left_s /= 1 + others  # one that hangs leaves time for them
                try:
                    answers = await self._one(client, endpoint, ask, texts, left_s, retries=retries, others=others)
                except Refused as exc:
                    if exc.for_the_text or exc.__cause__ is None:  # no server would say something else
                        raise
                    failed[endpoint] = exc
                except ModelError as exc:
                    self._endpoints.failed(endpoint)
                    failed[endpoint] = exc
                else:
                    for one, why in failed.items():
                        if isinstance(why, Refused):  # it was not the text
                            self._endpoints.failed(one)
                    return answers
        last = [*failed.values()][-1]
        raise next((why for why in failed.values() if isinstance(why, Refused)), last)

    async def _one(
        self,
        client: Any,
        endpoint: Endpoint,
        ask: Ask[T],
        texts: Sequence[str],
        seconds: float,
        *,
        retries: int,
        others: int,
    ) -> Sequence[T]:
        """Return one server's answer; where there are others, soon or not at all. Raises as ``_request`` does."""
        one = client.with_options(base_url=endpoint.url, max_retries=0 if others else retries)
        begun = self._endpoints.begin(endpoint)
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                answers = await (self._watched(one, ask(one, texts)) if others else ask(one, texts))
        except (TimeoutError, self._openai.APITimeoutError) as exc:
            raise self._error(
                f"{endpoint.shown_url} did not answer in {seconds:.3g} s",
                hint="raise timeout_s, or look whether the server is overloaded",
            ) from exc
        except self._openai.APIStatusError as exc:
            if exc.status_code in _MAY_BE_ONE_TEXT:
                raise Refused(f"{exc.status_code}: {_message(exc)}") from exc
            raise self._failed(endpoint, exc) from exc
        except self._openai.APIConnectionError as exc:
            raise self._error(
                f"{endpoint.shown_url} cannot be reached: {exc.__cause__ or exc}",
                hint="check the url, which ends in /v1, and that the server runs: vllm serve MODEL",
            ) from exc
        except (ValueError, self._openai.OpenAIError) as exc:  # ValueError: not JSON
            raise Refused(f"the answer cannot be read: {exc}") from exc
        finally:
            self._endpoints.end(endpoint)
        self._endpoints.answered(endpoint, begun)
        return answers

    async def _watched(self, client: Any, answer: Awaitable[Sequence[T]]) -> Sequence[T]:
        """Return an answer. A server that takes its time is asked now and then whether it is there.

        Raises:
            TimeoutError: It is not, asked twice.
        """
        asking = asyncio.ensure_future(answer)
        try:
            while not (await asyncio.wait({asking}, timeout=_LOOK_S))[0]:
                if not await _is_there(self._openai, client) and not await _is_there(self._openai, client):
                    raise TimeoutError
            return asking.result()
        finally:
            asking.cancel()

    def _failed(self, endpoint: Endpoint, exc: Any) -> ModelError:
        """Return the error for a status that no other text would change."""
        hints = {
            401: "set the API key, for example LREM_OS__REASONING__API_KEY",
            403: "the API key may not use this model",
            404: "check url (it ends in /v1) and model name: GET /v1/models lists what the server has",
            429: "the server is busy, or a quota is used up: lower max_concurrency, or try later",
        }
        return self._error(
            f"{endpoint.shown_url} answered {exc.status_code}: {_message(exc)}",
            hint=hints.get(exc.status_code, "look into the server's log"),
        )

    def _check_answered(self, answers: Sequence[T | Refused]) -> None:
        """Raise if the server has refused every text since the start: then it is hardly the texts."""
        refusals = [answer for answer in answers if isinstance(answer, Refused)]
        self._has_answered = self._has_answered or len(refusals) < len(answers)
        if not self._has_answered:
            raise self._error(
                f"{self._endpoints.states[0].url} has refused every text so far; the last time: {refusals[-1]}",
                hint="check that the model fits the task, and the options against what the server knows",
            ) from refusals[-1]


def _serve(loop: asyncio.AbstractEventLoop, client: Any) -> None:
    """Run the loop until it is stopped, then close what is open."""
    asyncio.set_event_loop(loop)
    loop.run_forever()
    for task in asyncio.all_tasks(loop):  # a look at a server that was left alone
        task.cancel()
    loop.run_until_complete(client.close())
    loop.close()


async def _is_there(openai: Any, client: Any) -> bool:
    """Return whether a server answers at all; what it answers does not matter, unless it is that it cannot."""
    try:
        await client.with_options(max_retries=0, timeout=_LOOK_S).get("/models", cast_to=object)
    except openai.APIStatusError as exc:
        return bool(exc.status_code < 500)
    except openai.APIConnectionError:  # too late, or not at all
        return False
    except ValueError:  # not JSON
        return True
    return True


async def _probe(openai: Any, endpoints: Endpoints, client: Any, endpoint: Endpoint) -> None:
    """Look whether a server that was left alone is there again."""
    if await _is_there(openai, client.with_options(base_url=endpoint.url)):
        endpoints.back(endpoint)
    else:
        endpoints.rest(endpoint)


def _status(exc: Refused) -> int | None:
    return getattr(exc.__cause__, "status_code", None)


def _message(exc: Any) -> str:
    """Return what the server says went wrong, cut to a line."""
    body = exc.body if isinstance(exc.body, dict) else {}
    return " ".join(str(body.get("message") or exc.message).split())[:300]
