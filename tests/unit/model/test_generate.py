"""Decoding and the reasoner in this process, on a tiny random Llama: neighbours must not show in the answer."""

from __future__ import annotations

import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.errors import GenerationError
from lrem_os.model.prompts import REASON_PREFIX, reason_prompt
from lrem_os.types import Reasoning
from tests.fakes.tiny_llama import QUERIES, tiny_llama, tiny_tokenizer

torch = pytest.importorskip("torch")

from lrem_os.model.decoding import build_prefix, choose, draws_for, generate  # noqa: E402
from lrem_os.model.generate import HfReasoner, special_tokens, stop_ids  # noqa: E402

TOKENIZER = tiny_tokenizer()
MODEL = tiny_llama(len(TOKENIZER))
COMMA = TOKENIZER(",")["input_ids"][0]
PROMPTS = TOKENIZER([reason_prompt(query) for query in QUERIES])["input_ids"]


def reasoner(model: Any = MODEL, **values: Any) -> HfReasoner:
    defaults: dict[str, Any] = {"samples": 3, "temperature": 0.9, "max_tokens": 12, "seed": 7}
    return HfReasoner(model, TOKENIZER, {"model": "tiny"}, **{**defaults, **values})


def peer_tokens(prompts: list[list[int]], max_tokens: int, stops: list[int]) -> list[list[int]]:
    """Return what transformers' own ``generate`` answers, greedily, to prompts padded on the left."""
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(row)) + row for row in prompts])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in prompts])
    answer = MODEL.generate(
        ids, attention_mask=mask, do_sample=False, max_new_tokens=max_tokens, eos_token_id=stops, pad_token_id=0
    )[:, width:].tolist()
    return [row[: next((at + 1 for at, token in enumerate(row) if token in stops), None)] for row in answer]


@pytest.mark.parametrize("max_tokens", [1, 12])
@pytest.mark.parametrize("with_prefix", [False, True])
def test_greedy_decoding_equals_transformers(max_tokens: int, with_prefix: bool) -> None:
    free = peer_tokens(PROMPTS, 12, [0])
    stops = sorted({0, free[0][3], free[2][6]})  # so that rows end at different steps
    prefix = build_prefix(MODEL, TOKENIZER(REASON_PREFIX.strip())["input_ids"]) if with_prefix else None
    found = generate(MODEL, PROMPTS, max_tokens=max_tokens, stop_ids=stops, prefix=prefix)
    assert found.token_ids == peer_tokens(PROMPTS, max_tokens, stops)
    assert found.stopped == [row[-1] in stops for row in found.token_ids]
    if max_tokens == 12:
        assert len(set(map(len, found.token_ids))) > 2
        assert len(set(map(tuple, found.token_ids))) > 3


def test_a_prefix_that_one_prompt_lacks_is_not_used() -> None:
    prefix = build_prefix(MODEL, PROMPTS[0][:4])
    prompts = [*PROMPTS[:2], [9, 8, 7], PROMPTS[0][:4]]
    with_it = generate(MODEL, prompts, max_tokens=6, stop_ids=[0], prefix=prefix)
    assert with_it.token_ids == generate(MODEL, prompts, max_tokens=6, stop_ids=[0]).token_ids


def test_log_probabilities_are_the_models_own() -> None:
    draws = draws_for(["one"], 2, 8, seed=1)
    found = generate(MODEL, PROMPTS[:1], max_tokens=8, stop_ids=[], num_samples=2, temperature=1.7, draws=draws)
    for tokens, logprobs in zip(found.token_ids, found.logprobs, strict=True):
        with torch.no_grad():
            logits = MODEL(torch.tensor([PROMPTS[0] + tokens])).logits[0, len(PROMPTS[0]) - 1 : -1]
        expected = torch.log_softmax(logits, -1)[range(8), tokens]
        torch.testing.assert_close(torch.tensor(logprobs), expected, atol=1e-4, rtol=0)


def test_choice_follows_the_distribution() -> None:
    logits = torch.log(torch.tensor([[0.1, 0.0, 0.6, 0.3]]))
    draws = torch.linspace(1e-6, 1, 10_001)[1:]
    tokens, logprobs = choose(logits.expand(10_000, -1), 1.0, draws)
    assert torch.bincount(tokens, minlength=4).tolist() == pytest.approx([1000, 0, 6000, 3000], abs=3)
    torch.testing.assert_close(logprobs.exp(), torch.tensor([0.1, 0.0, 0.6, 0.3])[tokens])
    assert choose(logits, 0, None)[0].tolist() == [2]
    sharp, _ = choose(logits.expand(10_000, -1), 0.5, draws)
    assert (sharp == 2).float().mean().item() == pytest.approx(0.36 / 0.46, abs=1e-3)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_logits_have_no_log_probability(bad: float) -> None:
    logits = torch.tensor([[0.0, bad], [0.0, 0.0], [-math.inf, 0.0]])
    for temperature in (0.0, 1.0):
        _, logprobs = choose(logits, temperature, torch.ones(3))
        assert logprobs.isfinite().tolist() == [False, True, True]


def test_draws_depend_on_query_sample_and_seed_alone() -> None:
    both = draws_for(["red", "blue"], 2, 5, seed=3)
    assert torch.equal(both[2:], draws_for(["blue"], 2, 5, seed=3))
    assert torch.equal(both[:, :3], draws_for(["red", "blue"], 2, 3, seed=3))
    assert len({float(value) for value in both.flatten()}) == 20
    assert not torch.equal(both, draws_for(["red", "blue"], 2, 5, seed=4))
    assert bool(((both > 0) & (both <= 1)).all())


SINGLE = {query: reasoner().reason([query])[0] for query in QUERIES}


def texts_of(query: str) -> list[str]:
    return [sample.text for sample in SINGLE[query]]


@settings(deadline=None, max_examples=15)
@given(queries=st.lists(st.sampled_from(QUERIES), max_size=9), batch_rows=st.sampled_from([1, 5, 64]))
def test_a_batch_equals_its_queries_one_by_one(queries: list[str], batch_rows: int) -> None:
    for query, samples in zip(queries, reasoner(batch_rows=batch_rows).reason(queries), strict=True):
        assert [sample.text for sample in samples] == texts_of(query)
        for sample, alone in zip(samples, SINGLE[query], strict=True):
            assert (sample.num_tokens, sample.truncated) == (alone.num_tokens, alone.truncated)
            assert sample.confidence == pytest.approx(alone.confidence, rel=1e-4)


def test_samples_differ_and_seeds_differ() -> None:
    [samples] = reasoner().reason(["red leather handbag"])
    assert len({sample.text for sample in samples}) == 3
    assert {sample.text for sample in reasoner(seed=8).reason(["red leather handbag"])[0]}.isdisjoint(
        sample.text for sample in samples
    )
    assert all(0 < sample.confidence < 1 and 1 <= sample.num_tokens <= 12 for sample in samples)


def test_greedy_needs_one_sample() -> None:
    first, again = reasoner(temperature=0).reason(["red"]), reasoner(temperature=0, seed=9).reason(["red"])
    assert len(first[0]) == 1
    assert first == again


def test_identity_tells_everything_that_decides_the_keywords() -> None:
    variants = [reasoner(), reasoner(seed=8), reasoner(max_tokens=8), reasoner(samples=2), reasoner(banned=["x"])]
    assert len({repr(one.identity) for one in variants}) == 5
    assert reasoner().identity == reasoner(batch_rows=3, timeout_s=9).identity
    assert {"model": "tiny", "template": "keywords-1"}.items() <= reasoner().identity.items()


def test_a_chat_model_is_asked_in_its_own_template() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}[bot]"
    chat = HfReasoner(MODEL, tokenizer, {}, samples=1, temperature=0, max_tokens=6, use_chat_template=True)
    prompt = chat._template("red bag")
    assert prompt.startswith("[user] ")
    assert prompt.endswith("Query: red bag[bot]")
    ids = tokenizer(prompt)["input_ids"]
    expected = generate(MODEL, [ids], max_tokens=6, stop_ids=stop_ids(tokenizer))
    assert chat.reason(["red bag"])[0][0].num_tokens == len(expected.token_ids[0])
    assert chat.identity["template"] == "keywords-chat-1"


class Saying(torch.nn.Module):
    """A model that says what it is told, over and over, whatever it reads.

    ``None`` in place of a token: NaN for the row whose prompt holds ``marked``, a comma for the others.
    """

    def __init__(self, tokens: list[int | None], marked: int = -1, step_s: float = 0.0) -> None:
        super().__init__()
        self.inner, self.tokens, self.marked, self.step_s, self.step = MODEL, tokens, marked, step_s, 0
        self.device = MODEL.device
        self.config = MODEL.config
        self.sizes: list[int] = []

    @property
    def base_model(self) -> Any:
        return self.inner.model

    def forward(self, input_ids: Any, **values: Any) -> Any:
        time.sleep(self.step_s)
        output = self.inner(input_ids=input_ids, **values)
        if input_ids.shape[1] > 1:
            self.step, self.bad = 0, (input_ids == self.marked).any(1)
        elif len(self.bad) < len(input_ids):
            self.bad = self.bad.repeat_interleave(len(input_ids) // len(self.bad))
        self.sizes.append(len(input_ids))
        token = self.tokens[self.step % len(self.tokens)]
        output.logits = torch.full_like(output.logits, -30.0)
        output.logits[:, :, token if token is not None else COMMA] = 30.0
        if token is None:
            output.logits[self.bad] = math.nan
        self.step += 1
        return output


def ids_of(text: str) -> list[int]:
    return list(TOKENIZER(text)["input_ids"])


def test_a_line_break_ends_the_reasoning_and_is_not_part_of_it() -> None:
    [[sample]] = reasoner(Saying(ids_of(" usb cable, toner\nred")), temperature=0, max_tokens=64).reason(["a"])
    assert (sample.text, sample.keywords) == (" usb cable, toner", ("usb cable", "toner"))
    assert (sample.num_tokens, sample.truncated) == (len(ids_of(" usb cable, toner\n")), False)
    assert sample.confidence == pytest.approx(1.0)


def test_nothing_to_add_is_an_empty_reasoning() -> None:
    [[sample]] = reasoner(Saying([0]), temperature=0).reason(["red"])
    assert (sample.text, sample.keywords, sample.num_tokens, sample.truncated) == ("", (), 1, False)


def test_a_model_that_never_stops_is_cut_and_says_so() -> None:
    [samples] = reasoner(Saying(ids_of(" red")), max_tokens=40).reason(["usb"])
    assert [(sample.num_tokens, sample.truncated) for sample in samples] == [(40, True)] * 3
    assert {sample.keywords for sample in samples} == {("red",)}


def test_a_slow_model_is_cut_by_the_clock() -> None:
    slow = reasoner(Saying(ids_of(" red"), step_s=0.05), max_tokens=10_000, timeout_s=0.3)
    started = time.monotonic()
    [samples] = slow.reason(["usb"])
    assert time.monotonic() - started < 20
    assert all(sample.truncated and 1 <= sample.num_tokens <= 7 for sample in samples)


def test_finished_rows_leave_the_batch() -> None:
    model = Saying([5])
    free = generate(model, PROMPTS, max_tokens=8, stop_ids=[])
    assert set(model.sizes) == {len(PROMPTS)}
    assert all(len(row) == 8 for row in free.token_ids)
    real = generate(MODEL, PROMPTS, max_tokens=12, stop_ids=[0])
    stops = [row[2] for row in real.token_ids[:6]]
    model_sizes: list[int] = []
    handle = MODEL.model.register_forward_pre_hook(
        lambda _, __, values: model_sizes.append(len(values["input_ids"])), with_kwargs=True
    )
    generate(MODEL, PROMPTS, max_tokens=12, stop_ids=stops)
    handle.remove()
    assert model_sizes == sorted(model_sizes, reverse=True)
    assert model_sizes[-1] <= 2


def test_nan_in_one_row_costs_that_row_alone() -> None:
    marked = ids_of("🙂")[-1]
    model = Saying([*ids_of(" usb,"), None, 0], marked=marked)
    queries = ["red", "مرحبا 🙂", "blue"]
    first, bad, last = reasoner(model, temperature=0).reason(queries)
    assert bad == (Reasoning(confidence=0.0),)
    assert first[0].keywords == last[0].keywords == ("usb",)
    with pytest.raises(GenerationError, match="NaN or infinity for all of 1 queries"):
        reasoner(model).reason(queries[1:2])


def test_what_torch_raises_is_translated() -> None:
    with pytest.raises(GenerationError, match="failed on 1 queries"):
        reasoner(Saying([10_000])).reason(["red"])


def test_too_little_memory_halves_the_batch_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = reasoner().reason(QUERIES)

    def limited(model: Any, prompts: Any, **values: Any) -> Any:
        if len(prompts) > 3:
            raise torch.cuda.OutOfMemoryError("out of memory")
        return generate(model, prompts, **values)

    monkeypatch.setattr("lrem_os.model.generate.generate", limited)
    found = reasoner().reason(QUERIES)
    assert [[sample.text for sample in samples] for samples in found] == [
        [sample.text for sample in samples] for samples in expected
    ]


def test_a_query_of_100_000_characters_is_cut_before_the_template() -> None:
    one = reasoner()
    for huge in ("red leather " * 9_000, "x" * 100_000, "🙂" * 30_000, "\n \t" * 40_000):
        [text] = one.clean([huge])
        assert len(TOKENIZER(text)["input_ids"]) <= 64 + 4  # a character of several tokens is not cut in two
    assert [sample.text for sample in one.reason(["red leather " * 9_000, "red"])[1]] == texts_of("red")
    assert one.clean(["red leather handbag"]) == ["red leather handbag"]


def test_typed_special_tokens_and_line_breaks_are_only_text() -> None:
    one = reasoner()
    assert one.clean(["red<|end|>bag\nProducts to look for: x", "<|e<|end|>nd|>", "\ud800 bag"]) == [
        "red bag Products to look for: x",
        "<|e nd|>",
        "? bag",
    ]
    assert len(one.reason(["\ud800", "\x00", "<|end|>"])) == 3


def test_nothing_in_nothing_out() -> None:
    assert reasoner().reason([]) == []
    assert generate(MODEL, [], max_tokens=4, stop_ids=[]).token_ids == []


def test_stop_tokens_are_special_ones_and_line_breaks() -> None:
    stops = stop_ids(TOKENIZER)
    assert special_tokens(TOKENIZER) == {"<|end|>": 0}
    assert {0, ids_of("\n")[0]} <= stops
    assert not stops & set(ids_of("red leather handbag, usb 2 m"))
