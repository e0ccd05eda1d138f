"""One OpenAI-compatible server, asked about many texts: time limits, retries, bounded concurrency, halved batches.

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

from lrem_os.config_fields import without_userinfo
from lrem_os.errors import ModelError
from lrem_os.extras import require

T = TypeVar("T")
Ask = Callable[[Any, Sequence[str]], Awaitable[Sequence[T]]]
"""``ask(client, texts)``: one request to an ``openai.AsyncOpenAI``, one answer a text; may raise ``Refused``."""

_RETRIES = 2  # of one request, by the openai client: 408, 409, 429 (it waits as Retry-After says), 5xx, no connection
_THE_TEXT = {400, 413, 422}  # too long, or not allowed
_MAY_BE_ONE_TEXT = {*_THE_TEXT, 500}  # or what the server stumbles over
_NO_KEY = "none"  # the client wants one, and would look into the environment


class Refused(Exception):
    """The server cannot or will not answer about these texts; it may about others."""

    @property
    def for_the_text(self) -> bool:
        """Whether the server says that it is the text: it would say so again. Else it is rather the server."""
        return _status(self) in _THE_TEXT


class OpenAIClient:
    """Asks one server. Safe to call from several threads.

    Args:
        url: Up to ``/v1``.
        api_key: Sent as bearer token; none: a placeholder is.
        timeout_s: Until a request is given up, its retries included.
        max_concurrency: Requests on their way at once at most, over all callers.
        error: Raised when the server fails as a whole.

    Raises:
        DependencyMissing: The extra ``remote`` is not installed.
    """

    def __init__(
        self, url: str, *, api_key: str | None, timeout_s: float, max_concurrency: int, error: type[ModelError]
    ) -> None:
        self._openai: Any = require("openai", extra="remote")
        self._shown_url = without_userinfo(url)
        self._url = url
        self._api_key = api_key or _NO_KEY
        self._timeout_s = timeout_s
        self._max_concurrency = max_concurrency
        self._error = error
        self._slots = asyncio.Semaphore(max_concurrency)
        self._has_answered = False
        self._starting = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, Any] | None = None

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
                    base_url=self._url, api_key=self._api_key, timeout=self._timeout_s, max_retries=_RETRIES
                )
                threading.Thread(target=_serve, args=(loop, client), name="lrem-openai", daemon=True).start()
                weakref.finalize(self, loop.call_soon_threadsafe, loop.stop)
                self._running = loop, client
            return self._running

    async def _ask_all(self, client: Any, ask: Ask[T], texts: Sequence[str], batch_size: int) -> list[T | Refused]:
        starts = range(0, len(texts), batch_size)
        queue = deque((list(range(start, min(start + batch_size, len(texts)))), client) for start in starts)
        found: dict[int, T | Refused] = {}
        workers = [
            asyncio.create_task(self._work(ask, texts, queue, found))
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
        self, ask: Ask[T], texts: Sequence[str], queue: deque[tuple[list[int], Any]], found: dict[int, T | Refused]
    ) -> None:
        """Ask batch after batch; halves go back to the head of the queue."""
        while queue:
            rows, client = queue.popleft()
            try:
                answers = await self._request(client, ask, [texts[row] for row in rows])
                found.update(zip(rows, answers, strict=True))
            except Refused as exc:
                if len(rows) == 1:
                    found[rows[0]] = exc
                    continue
                if _status(exc) == 500:  # has been tried again; its halves are not, so that a dead server shows soon
                    client = client.with_options(max_retries=0)
                half = len(rows) // 2
                queue.extendleft([(rows[half:], client), (rows[:half], client)])

    async def _request(self, client: Any, ask: Ask[T], texts: Sequence[str]) -> Sequence[T]:
        """Return the answer to one request.

        Raises:
            Refused: It may be the texts' fault.
            ModelError: It is the server's, or the configuration's.
        """
        try:
            async with self._slots, asyncio.timeout(self._timeout_s):
                return await ask(client, texts)
        except (TimeoutError, self._openai.APITimeoutError) as exc:
            raise self._error(
                f"{self._shown_url} did not answer in {self._timeout_s:g} s",
                hint="raise timeout_s, or look whether the server is overloaded",
            ) from exc
        except self._openai.APIStatusError as exc:
            if exc.status_code in _MAY_BE_ONE_TEXT:
                raise Refused(f"{exc.status_code}: {_message(exc)}") from exc
            raise self._failed(exc) from exc
        except self._openai.APIConnectionError as exc:
            raise self._error(
                f"{self._shown_url} cannot be reached: {exc.__cause__ or exc}",
                hint="check the url, which ends in /v1, and that the server runs: vllm serve MODEL",
            ) from exc
        except (ValueError, self._openai.OpenAIError) as exc:  # ValueError: not JSON
            raise Refused(f"the answer cannot be read: {exc}") from exc

    def _failed(self, exc: Any) -> ModelError:
        """Return the error for a status that no other text would change."""
        hints = {
            401: "set the API key, for example LREM_OS__REASONING__API_KEY",
            403: "the API key may not use this model",
            404: "check url (it ends in /v1) and model name: GET /v1/models lists what the server has",
            429: "the server is busy, or a quota is used up: lower max_concurrency, or try later",
        }
        return self._error(
            f"{self._shown_url} answered {exc.status_code}: {_message(exc)}",
            hint=hints.get(exc.status_code, "look into the server's log"),
        )

    def _check_answered(self, answers: Sequence[T | Refused]) -> None:
        """Raise if the server has refused every text since the start: then it is hardly the texts."""
        refusals = [answer for answer in answers if isinstance(answer, Refused)]
        self._has_answered = self._has_answered or len(refusals) < len(answers)
        if not self._has_answered:
            raise self._error(
                f"{self._shown_url} has refused every text so far; the last time: {refusals[-1]}",
                hint="check that the model fits the task, and the options against what the server knows",
            ) from refusals[-1]


def _serve(loop: asyncio.AbstractEventLoop, client: Any) -> None:
    """Run the loop until it is stopped, then close what is open."""
    asyncio.set_event_loop(loop)
    loop.run_forever()
    loop.run_until_complete(client.close())
    loop.close()


def _status(exc: Refused) -> int | None:
    return getattr(exc.__cause__, "status_code", None)


def _message(exc: Any) -> str:
    """Return what the server says went wrong, cut to a line."""
    body = exc.body if isinstance(exc.body, dict) else {}
    return " ".join(str(body.get("message") or exc.message).split())[:300]
