from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

pytest.importorskip("openai", reason="needs the package openai")

from lrem_os.train.construct.endpoint import Endpoint, EndpointSettings
from tests.fakes.openai_server import FakeOpenAI


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        yield fake


@pytest.fixture
def open_endpoint(server: FakeOpenAI) -> Iterator[Callable[..., Endpoint]]:
    """``open_endpoint(**settings)``: an endpoint at the fake server."""
    with ExitStack() as stack:

        def _open(**values: Any) -> Endpoint:
            settings = EndpointSettings(**({"url": server.url, "model": "teacher", "retries": 0} | values))
            return stack.enter_context(Endpoint(settings))

        yield _open
