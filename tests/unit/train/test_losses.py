"""Losses, rewards and advantages against closed forms, and against numpy written from the papers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from lrem_os.train.advantages import group_advantages, most_telling  # noqa: E402
from lrem_os.train.losses import (  # noqa: E402
    info_nce,
    policy_loss,
    redapter_weights,
    sft_loss,
    symmetric_info_nce,
)
from lrem_os.train.rewards import format_reward, length_reward, rank_reward, repeated_share  # noqa: E402

SEEDS = st.integers(0, 2**31)


def plain_info_nce(similarities: Any, relevance: Any, temperature: float, ignored: Any) -> list[float]:
    """LREM's L_InfoNCE, one query and one positive at a time, in float64."""
    losses = []
    for row, grades in zip(similarities, relevance, strict=True):
        negatives = [math.exp(s / temperature) for s, g in zip(row, grades, strict=True) if g == 0]
        against = sum(n for n, skip in zip(negatives, ignored[len(losses)][grades == 0], strict=True) if not skip)
        terms = [
            (-math.log(math.exp(s / temperature) / (math.exp(s / temperature) + against)), g)
            for s, g in zip(row, grades, strict=True)
            if g > 0
        ]
        total = sum(grade for _, grade in terms)
        losses.append(sum(term * grade for term, grade in terms) / total if terms else 0.0)
    return losses


@given(SEEDS, st.integers(1, 5), st.integers(2, 8), st.sampled_from([0.05, 0.2, 1.0]))
@settings(max_examples=30, deadline=None)
def test_info_nce_agrees_with_plain_python(seed: int, rows: int, columns: int, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    similarities = rng.uniform(-1, 1, (rows, columns))
    relevance = rng.choice([0, 0, 1, 2], (rows, columns))
    relevance[:, 0] = 0  # a negative is always there
    ignored = (rng.random((rows, columns)) < 0.2) & (relevance == 0)
    ignored[:, 0] = False
    got = info_nce(
        torch.tensor(similarities), torch.tensor(relevance), temperature=temperature, ignored=torch.tensor(ignored)
    )
    assert got.tolist() == pytest.approx(plain_info_nce(similarities, relevance, temperature, ignored), abs=1e-4)


def test_info_nce_of_equal_similarities_is_the_log_of_the_candidates() -> None:
    loss = info_nce(torch.zeros(3, 8), torch.eye(3, 8), temperature=0.05)
    assert loss.tolist() == pytest.approx([math.log(8)] * 3)


def test_another_positive_is_no_negative() -> None:
    similarities = torch.tensor([[0.9, 0.9, 0.1]])
    one = info_nce(similarities[:, [0, 2]], torch.tensor([[1.0, 0.0]]), temperature=0.1)
    both = info_nce(similarities, torch.tensor([[1.0, 1.0, 0.0]]), temperature=0.1)
    assert both.item() == pytest.approx(one.item())
    against = info_nce(similarities, torch.tensor([[1.0, 0.0, 0.0]]), temperature=0.1)
    assert against.item() > math.log(2)
    ignored = torch.tensor([[False, True, False]])
    assert info_nce(similarities, torch.tensor([[1.0, 0.0, 0.0]]), temperature=0.1, ignored=ignored).item() == (
        pytest.approx(one.item())
    )


def test_info_nce_without_a_positive_is_zero_and_has_a_finite_gradient() -> None:
    similarities = torch.rand(2, 4, requires_grad=True)
    relevance = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])  # no positive; no negative
    loss = info_nce(similarities, relevance, temperature=0.05)
    assert loss.tolist() == [0.0, 0.0]
    loss.sum().backward()
    assert similarities.grad is not None
    assert similarities.grad.isfinite().all()


def test_info_nce_pulls_as_the_softmax_says() -> None:
    similarities = torch.tensor([[0.3, 0.1, -0.2]], requires_grad=True)
    info_nce(similarities, torch.tensor([[1.0, 0.0, 0.0]]), temperature=0.5).sum().backward()
    share = np.exp(np.array([0.3, 0.1, -0.2]) / 0.5)
    share /= share.sum()
    assert similarities.grad is not None
    assert similarities.grad[0].tolist() == pytest.approx(((share - [1, 0, 0]) / 0.5).tolist(), abs=1e-5)


def test_symmetric_info_nce_of_orthogonal_pairs() -> None:
    loss = symmetric_info_nce(torch.eye(4), torch.eye(4), temperature=0.5)
    assert loss.item() == pytest.approx(math.log(math.e**2 + 3) - 2, abs=1e-6)


def test_sft_loss_is_the_log_of_the_vocabulary_where_nothing_is_known() -> None:
    assert sft_loss(torch.zeros(5, 32), torch.arange(5)).item() == pytest.approx(math.log(32))
    assert sft_loss(torch.zeros(0, 32), torch.zeros(0, dtype=torch.int64)).item() == 0.0


def test_redapter_weights_are_shares_of_the_clamped_ratio() -> None:
    direct, reasoned = torch.tensor([2.0, 1.0, 3.0, 0.5]), torch.tensor([1.0, 1.0, 0.0, 1.0])
    ratios = np.array([2 / (1 + 1e-6), 1 / (1 + 1e-6), 5.0, 0.5 / (1 + 1e-6)])
    assert redapter_weights(direct, reasoned).tolist() == pytest.approx((ratios / ratios.sum()).tolist(), abs=1e-6)
    assert redapter_weights(torch.zeros(4), torch.ones(4)).tolist() == [0.25] * 4
    leaf = torch.ones(3, requires_grad=True)
    assert not redapter_weights(leaf, leaf).requires_grad


@given(SEEDS, st.integers(1, 4), st.integers(2, 8))
@settings(max_examples=30, deadline=None)
def test_advantages_are_standard_scores_of_the_group(seed: int, rows: int, group: int) -> None:
    rewards = np.random.default_rng(seed).normal(size=(rows, group))
    wanted = (rewards - rewards.mean(1, keepdims=True)) / rewards.std(1, keepdims=True)
    assert np.allclose(group_advantages(torch.tensor(rewards)).numpy(), wanted, atol=1e-6)


def test_a_group_of_equal_rewards_teaches_nothing() -> None:
    equal = group_advantages(torch.full((2, 8), 0.7))
    assert equal.abs().max().item() == 0.0
    assert not most_telling(equal, 4).any()


def test_the_most_telling_samples_are_kept() -> None:
    advantages = torch.tensor([[0.1, -2.0, 1.0, 0.0], [0.0, 0.0, 0.0, 3.0]])
    assert most_telling(advantages, 2).tolist() == [[False, True, True, False], [False, False, False, True]]


def plain_grpo(new: Sequence[float], old: Sequence[float], advantages: Sequence[float], clip: float) -> float:
    terms = []
    for n, o, a in zip(new, old, advantages, strict=True):
        ratio = math.exp(n - o)
        terms.append(min(ratio * a, min(max(ratio, 1 - clip), 1 + clip) * a))
    return -sum(terms) / len(terms)


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_the_policy_loss_agrees_with_plain_python(seed: int) -> None:
    new, old, advantages = np.random.default_rng(seed).normal(size=(3, 6))
    got = policy_loss(*(torch.tensor(part) for part in (new, old, advantages)), clip=0.2).item()
    assert got == pytest.approx(plain_grpo(new, old, advantages, 0.2), rel=1e-6)


def test_on_policy_the_gradient_is_reinforce() -> None:
    logprobs = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
    advantages = torch.tensor([1.0, -0.5, 0.0])
    policy_loss(logprobs, logprobs, advantages, clip=0.2).backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == pytest.approx((-advantages / 3).tolist())


def test_beyond_the_clip_there_is_no_gradient() -> None:
    logprobs = torch.tensor([0.5, -0.5], requires_grad=True)  # ratios 1.65 and 0.61
    policy_loss(logprobs, torch.zeros(2), torch.tensor([1.0, -1.0]), clip=0.2).backward()
    assert logprobs.grad is not None
    assert logprobs.grad.tolist() == [0.0, 0.0]


@pytest.mark.parametrize(("ranks", "num", "reward"), [([1], 50, 1.0), ([50], 50, 0.0), ([1, 100], 100, 0.5)])
def test_rank_reward(ranks: list[int], num: int, reward: float) -> None:
    assert rank_reward(ranks, num) == pytest.approx(reward)


def test_rank_reward_needs_a_positive() -> None:
    with pytest.raises(ValueError, match="without positives"):
        rank_reward([], 10)


def test_form_rewards() -> None:
    assert (format_reward(True), format_reward(False)) == (1.0, 0.0)
    assert (length_reward(16, 16), length_reward(17, 16)) == (1.0, 0.0)
    assert repeated_share(["a", "b", "a", "a"]) == 0.5
    assert repeated_share([]) == 0.0
