from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from lrem_os.errors import GenerationError
from lrem_os.train.construct.endpoint import Answer, Endpoint, EndpointSettings, NoAnswer, in_threads
from tests.fakes.openai_server import BROKEN, BUSY, GARBAGE, FakeOpenAI, Fault, fewer_choices, times, when

Open = Callable[..., Endpoint]
CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "red bag"}]


def test_what_is_sent_and_what_comes_back(server: FakeOpenAI, open_endpoint: Open) -> None:
    server.write = lambda _text, _sample: "satchel, tote"
    answer = open_endpoint(api_key="secret", temperature=0.7, max_tokens=50).ask(CHAT, "q1")
    assert answer == Answer("satchel, tote", 2)
    [call] = server.calls
    assert call.path == "/v1/chat/completions"
    assert call.headers["authorization"] == "Bearer secret"
    assert call.body["messages"] == CHAT
    assert (call.body["model"], call.body["temperature"], call.body["max_tokens"]) == ("teacher", 0.7, 50)


def test_the_key_is_in_no_text(open_endpoint: Open) -> None:
    settings = EndpointSettings("http://localhost/v1", "m", api_key="secret")
    assert "secret" not in f"{settings!r} {settings.identity}"


def test_the_seed_depends_on_the_question_alone(server: FakeOpenAI, open_endpoint: Open) -> None:
    for key in ("q1", "q2", "q1"):
        open_endpoint().ask(CHAT, key)
    first, second, third = (call.body["seed"] for call in server.calls)
    assert first == third != second


def test_thinking_is_left_out(server: FakeOpenAI, open_endpoint: Open) -> None:
    server.write = lambda _text, _sample: "<think>bags, not hats</think>\n satchel"
    assert open_endpoint().ask(CHAT, "q1").text == "satchel"
    server.write = lambda _text, _sample: "bags, not hats</think>\n satchel"
    assert open_endpoint().ask(CHAT, "q2").text == "satchel"
    server.write = lambda _text, _sample: "<think>bags and no end " * 20
    with pytest.raises(NoAnswer, match="empty: max_tokens ended it"):
        open_endpoint(max_tokens=8).ask(CHAT, "q1")


def test_a_cut_answer_says_so(server: FakeOpenAI, open_endpoint: Open) -> None:
    server.write = lambda _text, _sample: "one two three four"
    assert open_endpoint(max_tokens=2).ask(CHAT, "q1") == Answer("one two", 2, truncated=True)


@pytest.mark.parametrize("fault", [BUSY, BROKEN, Fault(drop=True)])
def test_what_passes_is_tried_again(server: FakeOpenAI, open_endpoint: Open, fault: Fault) -> None:
    server.fault = times(1, fault)
    assert open_endpoint(retries=1).ask(CHAT, "q1").text
    assert len(server.calls) == 2


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(400, message="too long"), "too long"),
        (BROKEN, "500"),
        (GARBAGE, ""),
        (Fault(edit=fewer_choices), "no message"),
        (Fault(edit=lambda answer: answer | {"choices": [{"index": 0}]}), "no message"),
        (Fault(hang=True), "no answer within 2 s"),
    ],
)
def test_one_question_without_an_answer(server: FakeOpenAI, open_endpoint: Open, fault: Fault, reason: str) -> None:
    server.fault = when("poison", fault)
    endpoint = open_endpoint(timeout_s=2.0 if fault.hang else 20.0)
    asked = ["red bag", "poison", "hat"]
    found = in_threads(lambda text: endpoint.ask([{"role": "user", "content": text}], text).text, asked, 3)
    assert isinstance(found[1], NoAnswer)
    assert reason in str(found[1])
    assert found[0] == found[2] == "keyword0, other"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_ends_the_run(server: FakeOpenAI, open_endpoint: Open, status: int) -> None:
    server.fault = lambda _call: Fault(status, message="no such model")
    with pytest.raises(GenerationError, match=r"teacher at http.*refuses.*no such model"):
        open_endpoint().ask(CHAT, "q1")


def test_a_server_that_is_not_there_ends_the_run(server: FakeOpenAI, open_endpoint: Open) -> None:
    server.fault = lambda _call: Fault(drop=True)
    with pytest.raises(GenerationError, match="cannot reach teacher at http"):
        open_endpoint().ask(CHAT, "q1")


def test_failures_in_a_row_end_the_run_and_scattered_ones_do_not(server: FakeOpenAI, open_endpoint: Open) -> None:
    server.fault = when("poison", Fault(500))
    endpoint = open_endpoint()

    def ask(text: str) -> Any:
        return endpoint.ask([{"role": "user", "content": text}], text)

    found = in_threads(ask, ["poison", "fine"] * 25, 1)
    assert sum(isinstance(one, NoAnswer) for one in found) == 25
    with pytest.raises(GenerationError, match="failed on 20 questions in a row"):
        in_threads(ask, ["poison"] * 30, 1)


def test_questions_are_asked_at_the_same_time_and_answered_in_order(server: FakeOpenAI, open_endpoint: Open) -> None:
    together = threading.Barrier(4)

    def write(text: str, _sample: int) -> str:
        together.wait(20)
        return f"about {text}"

    server.write = write
    endpoint = open_endpoint()
    asked = [f"bag{number}" for number in range(8)]
    found = in_threads(lambda text: endpoint.ask([{"role": "user", "content": text}], text).text, asked, 4)
    assert found == [f"about {text}" for text in asked]
    assert server.num_at_once == 4
