"""Many requests of passages at once, as a bulk request in the cluster makes them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from lrem_os.config import Settings
from lrem_os.model.fake import FakeEmbedder
from lrem_os.query_plugin.engine.engine import QueryEngine
from lrem_os.types import Vectors
from tests.fakes.engine import FakeEngine
from tests.fakes.service import Service, serving


class Slow(FakeEngine):
    """Lets others come in between."""

    now_asked = most = 0

    async def embed_passages(self, texts: Sequence[str]) -> Vectors:
        self.now_asked += 1
        self.most = max(self.most, self.now_asked)
        for _ in range(5):
            await asyncio.sleep(0)
        self.now_asked -= 1
        return await super().embed_passages(texts)


async def ask_at_once(service: Service, num_requests: int, num_texts: int) -> list[int]:
    bodies = [
        {"input": [f"item {number} {text}" for text in range(num_texts)], "input_type": "passage"}
        for number in range(num_requests)
    ]
    answers = await asyncio.gather(*(service.ask("POST", "/v1/embeddings", json=body) for body in bodies))
    return [answer.status_code for answer in answers]


@pytest.mark.parametrize(("queue_limit", "at_once"), [(10, 2), (3, 1)])
def test_no_more_are_embedded_at_once_than_the_queue_holds(queue_limit: int, at_once: int) -> None:
    engine = Slow()

    async def check(service: Service) -> None:
        assert set(await ask_at_once(service, 12, 3)) == {200}

    serving(check, engine=engine, serve={"queue_limit": queue_limit, "embed_batch": 5})
    assert engine.most == at_once


def test_a_real_queue_is_not_overrun() -> None:
    serve = {"queue_limit": 16, "embed_batch": 8}

    async def run() -> list[int]:
        settings = Settings.model_validate({"serve": serve})
        engine = QueryEngine(FakeEmbedder(8), settings.serve)
        service = Service(settings, engine)  # type: ignore[arg-type]
        try:
            return await ask_at_once(service, 20, 30)
        finally:
            await service.aclose()
            await engine.aclose()

    assert set(asyncio.run(run())) == {200}
