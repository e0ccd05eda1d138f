"""One pass against two: ``<emb>`` fed into the kept cache, against the whole text encoded again, alone, unpadded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrem_os.model.prompts import EMB, END_THINK, unified_prompt
from lrem_os.types import Vectors
from tests.fakes.tiny_llama import QUERIES, tiny_llama, tiny_tokenizer

torch = pytest.importorskip("torch")

from lrem_os.model.decoding import draws_for, generate  # noqa: E402
from lrem_os.model.generate import Written, stop_ids  # noqa: E402
from lrem_os.model.unified import UnifiedEmbedder, add_special_tokens  # noqa: E402


@cache
def parts(dtype: Any) -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer()
    model = tiny_llama(len(tokenizer))
    add_special_tokens(model, tokenizer)
    return model.to(dtype), tokenizer


def unified(dtype: Any, **values: Any) -> UnifiedEmbedder:
    model, tokenizer = parts(dtype)
    defaults: dict[str, Any] = {"samples": 4, "temperature": 1.2, "max_reasoning_tokens": 10}
    embedder = UnifiedEmbedder(model, tokenizer, name="tiny", revision="1", max_tokens=64, **{**defaults, **values})
    write = embedder._reasoner.write

    def with_keywords(queries: Sequence[str], *, closing: Any) -> Written:
        """What a model of random weights writes leaves no keyword, and without one the direct vector would stand."""
        written = write(queries, closing=closing)
        kept = [tuple(replace(one, keywords=("bag",)) for one in samples) for samples in written.reasonings]
        return replace(written, reasonings=kept)

    embedder._reasoner.write = with_keywords  # type: ignore[method-assign]
    return embedder


def two_passes(dtype: Any, queries: list[str], *, samples: int, temperature: float, max_tokens: int) -> Vectors:
    """Return reasoned vectors the long way: generate, then encode prompt, reasoning and closing tokens again."""
    model, tokenizer = parts(dtype)
    stops = stop_ids(tokenizer)
    closing = tokenizer.convert_tokens_to_ids([END_THINK, EMB])
    vectors = []
    for query in queries:
        prompt = tokenizer(unified_prompt(query))["input_ids"]
        found = generate(
            model,
            [prompt],
            max_tokens=max_tokens,
            stop_ids=stops,
            num_samples=samples,
            temperature=temperature,
            draws=draws_for([query.strip()], samples, max_tokens, 0),
        )
        states = []
        for tokens in found.token_ids:
            text = prompt + [token for token in tokens if token not in stops] + closing
            with torch.no_grad():
                states.append(model.model(torch.tensor([text])).last_hidden_state[0, -1].float())
        mean = torch.nn.functional.normalize(torch.stack(states), dim=-1).mean(0)
        vectors.append(torch.nn.functional.normalize(mean, dim=0).numpy())
    return np.stack(vectors)


@pytest.mark.parametrize(("dtype", "least"), [(torch.float32, 0.9999), (torch.bfloat16, 0.999)])
@pytest.mark.parametrize(("samples", "temperature"), [(4, 1.2), (1, 0.0)])
@pytest.mark.parametrize("max_tokens", [1, 10])
def test_one_pass_equals_two(dtype: Any, least: float, samples: int, temperature: float, max_tokens: int) -> None:
    embedder = unified(dtype, samples=samples, temperature=temperature, max_reasoning_tokens=max_tokens)
    # bf16: one query a batch, since a token that the rounding of a larger one changes is another reasoning
    batches = [QUERIES] if dtype == torch.float32 else [[query] for query in QUERIES]
    found = [embedder.embed_reasoned(batch) for batch in batches]
    vectors = np.concatenate([part.vectors for part in found])
    expected = two_passes(dtype, QUERIES, samples=samples, temperature=temperature, max_tokens=max_tokens)
    cosines = (vectors * expected).sum(1)
    print(f"{dtype}: cosine {cosines.min():.6f} at least, {cosines.mean():.6f} on average")
    assert cosines.min() >= least
    assert np.abs(vectors @ vectors.T - np.eye(len(QUERIES))).max() > 0.001
    assert (vectors * embedder.embed_queries(QUERIES)).sum(1).min() < 0.99  # the reasoning is in the vector
    if max_tokens > 1 and samples > 1:
        lengths = {sample.num_tokens for part in found for row in part.reasonings for sample in row}
        assert len(lengths) > 2  # rows ended at different steps


SINGLE = {query: unified(torch.float32).embed_reasoned([query]).vectors[0] for query in QUERIES}


@settings(deadline=None, max_examples=15)
@given(
    queries=st.lists(st.sampled_from(QUERIES), min_size=1, max_size=10),
    batch_rows=st.sampled_from([4, 12, 64]),
)
def test_a_batch_equals_its_queries_one_by_one(queries: list[str], batch_rows: int) -> None:
    vectors = unified(torch.float32, batch_rows=batch_rows).embed_reasoned(queries).vectors
    np.testing.assert_allclose(vectors, [SINGLE[query] for query in queries], atol=2e-4)
