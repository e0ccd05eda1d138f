"""Reasoner and embedder on a server, against a real HTTP server that fails on demand."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from lrem_os.errors import EmbeddingError, GenerationError, ModelError
from lrem_os.model.openai_api import OpenAIEmbedder, OpenAIReasoner
from lrem_os.model.prompts import reason_instruction, reason_prompt
from lrem_os.types import Reasoning
from tests.fakes.openai_server import (
    BROKEN,
    BUSY,
    GARBAGE,
    LOGPROB,
    Body,
    Call,
    FakeOpenAI,
    Fault,
    fewer_choices,
    times,
    when,
)

pytest.importorskip("openai")

QUERIES = ["red bag", "la mer dupe", "poison", "usb cable", "yoga mat"]
SLOW_S = 5.0  # far more than any of these takes on a busy machine


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as fake:
        fake.write = lambda text, sample: f" about {len(text)}, sample {sample}\nmore"
        yield fake


def reasoner(server: FakeOpenAI, **options: Any) -> OpenAIReasoner:
    defaults: dict[str, Any] = {"timeout_s": 20.0, "samples": 2}
    return OpenAIReasoner(server.url, "small", **(defaults | options))


def embedder(server: FakeOpenAI, **options: Any) -> OpenAIEmbedder:
    return OpenAIEmbedder(server.url, "small", **({"dimension": 8} | options))


def expected(query: str, sample: int) -> tuple[str, ...]:
    return (f"about {len(reason_prompt(query))}", f"sample {sample}")


def keywords(answers: list[tuple[Reasoning, ...]]) -> list[list[tuple[str, ...]]]:
    return [[sample.keywords for sample in samples] for samples in answers]


ALL = [[expected(query, sample) for sample in range(2)] for query in QUERIES]


def test_samples_in_order_with_confidence(server: FakeOpenAI) -> None:
    answers = reasoner(server, batch_size=2, api_key="secret").reason(QUERIES)
    assert keywords(answers) == ALL
    sample = answers[0][0]
    assert sample.num_tokens == 4
    assert not sample.truncated
    assert sample.confidence == pytest.approx(math.exp(LOGPROB))
    assert [len(call.texts) for call in server.calls].count(2) == 2
    sent = server.calls[0]
    assert sent.headers["authorization"] == "Bearer secret"
    assert sent.path == "/v1/completions"
    assert {"model": "small", "n": 2, "seed": 0, "stop": ["\n"], "max_tokens": 16}.items() <= sent.body.items()


def test_limit_is_told(server: FakeOpenAI) -> None:
    (sample, _other) = reasoner(server, max_tokens=3).reason(["red bag"])[0]
    assert sample.truncated
    assert sample.num_tokens == 3


def test_no_logprobs_no_confidence(server: FakeOpenAI) -> None:
    server.with_logprobs = False
    (sample,) = reasoner(server, temperature=0.0, samples=8).reason(["red bag"])[0]
    assert math.isnan(sample.confidence)
    assert sample.num_tokens == 4  # from the usage, since there is one sample
    assert server.calls[0].body["n"] == 1


def test_chat(server: FakeOpenAI) -> None:
    answers = reasoner(server, chat=True, extra_body={"think": False}).reason(QUERIES[:2])
    asked = {call.texts[0]: call for call in server.calls}
    assert set(asked) == {reason_instruction(query) for query in QUERIES[:2]}
    assert server.calls[0].path == "/v1/chat/completions"
    assert server.calls[0].body["think"] is False
    assert answers[0][1].keywords[0] == f"about {len(reason_instruction(QUERIES[0]))}"
    assert answers[0][1].confidence == pytest.approx(math.exp(LOGPROB))


def test_identity_tells_models_and_sampling_apart(server: FakeOpenAI) -> None:
    one = reasoner(server, api_key="secret")
    assert "secret" not in repr(one.identity)
    assert server.url not in repr(one.identity)
    others: list[dict[str, Any]] = [{"chat": True}, {"samples": 3}, {"seed": 1}, {"banned": ["x"]}, {"max_tokens": 4}]
    assert all(reasoner(server, **other).identity != one.identity for other in others)


def test_banned(server: FakeOpenAI) -> None:
    answers = reasoner(server, banned=["sample"]).reason(["red bag"])
    assert keywords(answers) == [[expected("red bag", 0)[:1]] * 2]


def test_nothing_asked(server: FakeOpenAI) -> None:
    assert reasoner(server).reason([]) == []
    assert embedder(server).embed_items([]).shape == (0, 8)
    assert server.calls == []


@pytest.mark.parametrize(
    ("status", "samples"), [*dict.fromkeys([400, 413, 422], (Reasoning(), Reasoning())).items(), (500, ())]
)
def test_refused_query_alone_is_empty(server: FakeOpenAI, status: int, samples: tuple[Reasoning, ...]) -> None:
    server.fault = when("poison", Fault(status, headers={"retry-after": "0.01"}))
    answers = reasoner(server).reason(QUERIES)
    assert answers[2] == samples
    assert keywords(answers[:2] + answers[3:]) == ALL[:2] + ALL[3:]


@pytest.mark.parametrize("fault", [GARBAGE, Fault(edit=fewer_choices), Fault(body=b'{"choices": "none"}')])
def test_unusable_answer_about_one_query(server: FakeOpenAI, fault: Fault) -> None:
    server.fault = when("poison", fault)
    answers = reasoner(server, samples=1).reason(QUERIES)
    assert answers[2] == ()
    assert keywords(answers[3:]) == [[expected(query, 0)] for query in QUERIES[3:]]


def test_choices_in_any_order(server: FakeOpenAI) -> None:
    def reverse(answer: Body) -> Body:
        return answer | {"choices": answer["choices"][::-1]}

    server.fault = lambda _call: Fault(edit=reverse)
    assert keywords(reasoner(server).reason(QUERIES)) == ALL


def test_server_without_n_is_asked_again(server: FakeOpenAI) -> None:
    seeds = []

    def first_only(call: Call) -> Fault:
        seeds.append(call.body["seed"])
        return Fault(edit=lambda answer: answer | {"choices": answer["choices"][:1]})

    server.fault = first_only
    answers = reasoner(server, samples=3).reason(["red bag"])
    assert len(answers[0]) == 3
    assert seeds == [0, 1, 2]


def test_server_without_lists_is_asked_one_by_one(server: FakeOpenAI) -> None:
    def first_prompt(call: Call) -> Fault:
        num = call.body["n"]
        return Fault(edit=lambda answer: answer | {"choices": answer["choices"][:num]})

    server.fault = first_prompt
    one = reasoner(server)
    assert keywords(one.reason(QUERIES)) == ALL
    server.calls.clear()
    assert keywords(one.reason(QUERIES)) == ALL
    assert len(server.calls) == len(QUERIES)  # it has learnt


def test_busy_server_is_tried_again(server: FakeOpenAI) -> None:
    server.fault = times(2, BUSY)
    assert keywords(reasoner(server).reason(QUERIES)) == ALL
    assert len(server.calls) == 3


def test_dropped_connection_is_tried_again(server: FakeOpenAI) -> None:
    server.fault = times(1, Fault(drop=True))
    assert keywords(reasoner(server).reason(QUERIES)) == ALL


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (Fault(401), "401"),
        (Fault(404, message="no model small"), "no model small"),
        (Fault(503, headers={"retry-after": "0.01"}), "503"),
        (Fault(400, message="logprobs are not supported"), "logprobs are not supported"),
        (BROKEN, "refused every text"),
        (GARBAGE, "refused every text"),
        (Fault(drop=True), "cannot be reached"),
    ],
)
def test_server_that_fails_as_a_whole(server: FakeOpenAI, fault: Fault, says: str) -> None:
    server.fault = lambda _call: fault
    with pytest.raises(GenerationError, match=says) as caught:
        reasoner(server).reason(QUERIES)
    assert caught.value.hint
    with pytest.raises(ModelError, match=says):
        embedder(server).embed_items(QUERIES)


@pytest.mark.parametrize("fault", [BROKEN, GARBAGE, Fault(edit=fewer_choices), Fault(body=b"")])
def test_server_that_answered_and_then_fails_on_every_query(server: FakeOpenAI, fault: Fault) -> None:
    made = reasoner(server)
    assert keywords(made.reason(QUERIES)) == ALL
    server.fault = lambda _call: fault
    for queries in (QUERIES, QUERIES[:1]):
        with pytest.raises(GenerationError, match=f"failed on all of {len(queries)} queries"):
            made.reason(queries)
    server.fault = when(QUERIES[0], Fault(400))
    assert made.reason(QUERIES[:1]) == [(Reasoning(), Reasoning())]
    server.fault = lambda _call: None
    assert keywords(made.reason(QUERIES)) == ALL


def test_nobody_there() -> None:
    with FakeOpenAI() as gone:
        url = gone.url
    started = time.monotonic()
    with pytest.raises(GenerationError, match="cannot be reached") as caught:
        OpenAIReasoner(url.replace("http://", "http://me:secret@"), "small").reason(QUERIES * 20)
    assert time.monotonic() - started < 10 + SLOW_S
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("fault", [Fault(hang=True), BUSY])
def test_never_longer_than_the_limit(server: FakeOpenAI, fault: Fault) -> None:
    """BUSY with a long Retry-After: waiting counts too."""
    server.fault = lambda _call: Fault(fault.status, headers={"retry-after": "60"}, hang=fault.hang)
    started = time.monotonic()
    with pytest.raises(GenerationError, match=r"did not answer in 0\.3 s"):
        reasoner(server, timeout_s=0.3, max_concurrency=2, batch_size=1).reason(QUERIES * 4)
    assert time.monotonic() - started < 0.3 + SLOW_S


def test_works_again_after_a_failure(server: FakeOpenAI) -> None:
    one = reasoner(server, timeout_s=2.0)
    server.fault = times(1, Fault(hang=True))
    with pytest.raises(GenerationError):
        one.reason(QUERIES)
    assert keywords(one.reason(QUERIES)) == ALL


def test_concurrency_is_bounded_over_all_callers(server: FakeOpenAI) -> None:
    server.fault = lambda _call: Fault(delay_s=0.05)
    one = reasoner(server, max_concurrency=3, batch_size=1)
    found: list[list[list[tuple[str, ...]]]] = []
    threads = [threading.Thread(target=lambda: found.append(keywords(one.reason(QUERIES)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [ALL] * 4
    assert 2 <= server.num_at_once <= 3


def test_inside_a_running_loop(server: FakeOpenAI) -> None:
    async def caller() -> list[tuple[Reasoning, ...]]:
        return reasoner(server).reason(QUERIES)

    assert keywords(asyncio.run(caller())) == ALL


def test_vectors_in_order_and_normalised(server: FakeOpenAI) -> None:
    one = embedder(server, batch_size=2, query_prefix="query: ", item_prefix="item: ")
    vectors = one.embed_items(QUERIES)
    raw = np.array([server.embed(f"item: {text}") for text in QUERIES], np.float32)
    np.testing.assert_allclose(vectors, raw / np.linalg.norm(raw, axis=1, keepdims=True), rtol=1e-6)
    assert vectors.dtype == np.float32
    assert sorted(len(call.texts) for call in server.calls) == [1, 2, 2]
    assert one.embed_queries(["red bag"])[0] @ vectors[0] < 0.999  # another prefix
    assert one.identity["item_prefix"] == "item: "


def test_dimension_is_asked_for_once(server: FakeOpenAI) -> None:
    one = embedder(server, dimension=None)
    assert server.calls == []
    assert (one.dimension, one.identity["dimension"]) == (8, 8)
    assert len(server.calls) == 1


def test_wrong_dimension(server: FakeOpenAI) -> None:
    with pytest.raises(EmbeddingError, match="8 numbers for rows 0, 1, not 16"):
        embedder(server, dimension=16).embed_items(["a", "b"])


@pytest.mark.parametrize("vector", [[math.nan] * 8, [1e39] * 8, [0.0] * 8, [None] * 8], ids=str)
def test_bad_numbers_name_the_row(server: FakeOpenAI, vector: list[float]) -> None:
    right = server.embed
    server.embed = lambda text: vector if text == "poison" else right(text)
    with pytest.raises(EmbeddingError, match=r"rows 2 of 5"):
        embedder(server).embed_items(QUERIES)


def test_words_in_place_of_numbers(server: FakeOpenAI) -> None:
    right: Callable[[str], Any] = server.embed
    server.embed = lambda text: ["much"] * 8 if text == "poison" else right(text)  # type: ignore[list-item]
    with pytest.raises(EmbeddingError, match=r"refused rows 2 of 5"):
        embedder(server).embed_items(QUERIES)


@pytest.mark.parametrize("fault", [Fault(400, message="too long"), Fault(edit=fewer_choices)])
def test_refused_text_is_named(server: FakeOpenAI, fault: Fault) -> None:
    server.fault = when("poison", fault)
    with pytest.raises(EmbeddingError, match=r"refused rows 2 of 5"):
        embedder(server).embed_items(QUERIES)
