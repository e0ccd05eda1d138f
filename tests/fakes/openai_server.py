"""An OpenAI-compatible server that lives in this process and fails on demand, over real HTTP.

It speaks ``/v1/completions``, ``/v1/chat/completions`` and ``/v1/embeddings`` as vLLM does: lists of prompts, ``n``
choices a prompt in order, ``stop``, ``max_tokens``, log-probabilities, vectors as floats or base64. A token is a word.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import numpy as np

from tests.fakes.listening import Listening

Body = dict[str, Any]
LOGPROB = -0.5  # of every token


@dataclass(frozen=True)
class Call:
    """What a client sent."""

    path: str
    body: Body
    headers: Mapping[str, str]  # names in lower case

    @property
    def texts(self) -> list[str]:
        """Prompts, texts to embed, or the last message of a chat."""
        if self.path.endswith("/chat/completions"):
            return [str(self.body["messages"][-1]["content"])]
        value = self.body.get("prompt", self.body.get("input"))
        return [value] if isinstance(value, str) else list(value or [])


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request.

    Args:
        status: HTTP status to answer with; ``None``: none of that.
        headers: Sent with it, for example ``{"retry-after": "0.1"}``.
        message: Of the error object.
        body: These bytes in place of the answer, garbage for example.
        edit: Changes the right answer: fewer choices, another order, NaN.
        delay_s: Wait first.
        hang: Do not answer before the server is closed.
        drop: Close the connection without an answer.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    message: str = "this was asked for"
    body: bytes | None = None
    edit: Callable[[Body], Body] | None = None
    delay_s: float = 0.0
    hang: bool = False
    drop: bool = False


BUSY = Fault(429, headers={"retry-after": "0.05"})
BROKEN = Fault(500)
GARBAGE = Fault(body=b"<html>not JSON</html>")


def fewer_choices(answer: Body) -> Body:
    """Return the answer with one choice or vector missing: for ``Fault.edit``."""
    key = "choices" if "choices" in answer else "data"
    return answer | {key: answer[key][:-1]}


def times(count: int, fault: Fault) -> Callable[[Call], Fault | None]:
    """Return what strikes the first ``count`` requests and none after."""
    lock, left = threading.Lock(), [count]

    def decide(_call: Call) -> Fault | None:
        with lock:
            left[0] -= 1
            return fault if left[0] >= 0 else None

    return decide


def when(text: str, fault: Fault) -> Callable[[Call], Fault | None]:
    """Return what strikes every request that holds this text."""
    return lambda call: fault if any(text in one for one in call.texts) else None


class FakeOpenAI(Listening):
    """The server. Use as a context manager.

    Attributes:
        fault: Asked about every request.
        write: What the model writes after a prompt or last chat message: text and number of the sample, from 0.
        embed: The vector of a text; not of length 1.
        with_logprobs: Whether it knows log-probabilities; many servers do not.
        calls: Everything that was asked for, in order of arrival.
        num_at_once: The most requests that were answered at the same time.
    """

    def __init__(self, dimension: int = 8, *, port: int = 0) -> None:
        self.fault: Callable[[Call], Fault | None] = lambda _call: None
        self.write: Callable[[str, int], str] = lambda _text, sample: f" keyword{sample}, other"
        self.embed: Callable[[str], list[float]] = lambda text: _vector(text, dimension)
        self.with_logprobs = True
        self.calls: list[Call] = []
        self.num_at_once = 0
        self.closed = threading.Event()
        self._num_now = 0
        self._lock = threading.Lock()
        server = _Server(("127.0.0.1", port), _Handler)
        server.fake = self
        super().__init__(server, "/v1")

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed.set()
        super().__exit__(kind, value, trace)

    @contextmanager
    def counted(self, call: Call) -> Iterator[None]:
        """Note a request, and how many are being answered."""
        with self._lock:
            self.calls.append(call)
            self._num_now += 1
            self.num_at_once = max(self.num_at_once, self._num_now)
        try:
            yield
        finally:
            with self._lock:
                self._num_now -= 1

    def answer(self, call: Call) -> tuple[int, Body]:
        """Return status and body."""
        if call.path == "/v1/completions":
            return 200, self._complete(call)
        if call.path == "/v1/chat/completions":
            return 200, self._chat(call)
        if call.path == "/v1/embeddings":
            return 200, self._embeddings(call)
        return 404, error(f"no such path: {call.path}")

    def _complete(self, call: Call) -> Body:
        choices: list[Body] = []
        num_tokens = 0
        for text in call.texts:
            for sample in range(call.body.get("n") or 1):
                tokens, reason = self._generate(call, text, sample)
                num_tokens += len(tokens)
                wanted = self.with_logprobs and call.body.get("logprobs") is not None
                logprobs = {"tokens": tokens, "token_logprobs": [LOGPROB] * len(tokens)} if wanted else None
                choices.append(_choice(len(choices), reason, logprobs, text="".join(tokens)))
        return _object("text_completion", call, num_tokens, choices=choices)

    def _chat(self, call: Call) -> Body:
        choices: list[Body] = []
        num_tokens = 0
        for sample in range(call.body.get("n") or 1):
            tokens, reason = self._generate(call, call.texts[0], sample)
            num_tokens += len(tokens)
            wanted = self.with_logprobs and call.body.get("logprobs")
            content = [{"token": token, "logprob": LOGPROB, "top_logprobs": []} for token in tokens]
            message = {"role": "assistant", "content": "".join(tokens)}
            choices.append(_choice(sample, reason, {"content": content} if wanted else None, message=message))
        return _object("chat.completion", call, num_tokens, choices=choices)

    def _generate(self, call: Call, text: str, sample: int) -> tuple[list[str], str]:
        """Return the tokens and why they ended."""
        written = self.write(text, sample)
        stop = call.body.get("stop") or []
        for mark in [stop] if isinstance(stop, str) else stop:
            written = written.split(mark)[0]
        tokens = re.findall(r"\s*\S+|\s+$", written)
        limit = call.body.get("max_tokens") or call.body.get("max_completion_tokens") or 16
        return tokens[:limit], "length" if len(tokens) > limit else "stop"

    def _embeddings(self, call: Call) -> Body:
        as_base64 = call.body.get("encoding_format") == "base64"
        rows = []
        for index, text in enumerate(call.texts):
            vector = self.embed(text)
            value = base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode() if as_base64 else vector
            rows.append({"object": "embedding", "index": index, "embedding": value})
        return _object("list", call, 0, data=rows)


def error(message: str) -> Body:
    """Return an error object as OpenAI writes it."""
    return {"error": {"message": message, "type": "scripted", "param": None, "code": None}}


def _object(kind: str, call: Call, num_tokens: int, **parts: Any) -> Body:
    usage = {"prompt_tokens": 1, "completion_tokens": num_tokens, "total_tokens": 1 + num_tokens}
    return {"id": "fake-1", "object": kind, "created": 0, "model": call.body.get("model"), **parts, "usage": usage}


def _choice(index: int, reason: str, logprobs: Body | None, **parts: Any) -> Body:
    return {"index": index, "finish_reason": reason, "logprobs": logprobs, **parts}


def _vector(text: str, dimension: int) -> list[float]:
    """Return a vector that only this text has, of a length other than 1."""
    seed = list(text.encode("utf-8", "surrogatepass")) or [0]
    return [round(value, 6) for value in (3 * np.random.default_rng(seed).standard_normal(dimension)).tolist()]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeOpenAI

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that gave up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _handle(self) -> None:
        fake = self.server.fake
        length = int(self.headers.get("content-length") or 0)
        content = self.rfile.read(length)
        if len(content) < length:  # the client was killed while it wrote: it asked for nothing
            self.close_connection = True
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(self.path, json.loads(content or b"{}"), headers)
        with fake.counted(call):
            fault = fake.fault(call) or Fault()
            if fault.hang or fault.delay_s:
                fake.closed.wait(None if fault.hang else fault.delay_s)
            if fault.hang or fault.drop:
                self.close_connection = True
                return
            status, body = fake.answer(call) if fault.status is None else (fault.status, error(fault.message))
            body = fault.edit(body) if fault.edit is not None else body
            self._send(status, fault.headers, json.dumps(body).encode() if fault.body is None else fault.body)

    def _send(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response(status)
        for name, value in {"content-type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
