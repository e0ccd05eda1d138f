"""Closed form: the states are chosen so that the answer is known by hand."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from lrem_os.model.pooling import cls_pool, l2_normalise, last_token_pool, mean_pool, pool  # noqa: E402

# Two texts, padded to four tokens; padding holds what must never be seen.
POISON = float("1e30")
RIGHT = torch.tensor([[[1.0, 2.0], [3.0, 6.0], [5.0, 1.0], [POISON, POISON]], [[7.0, 8.0], *[[POISON, POISON]] * 3]])
RIGHT_MASK = torch.tensor([[True, True, True, False], [True, False, False, False]])
LEFT = torch.tensor([[[POISON, POISON], [1.0, 2.0], [3.0, 6.0], [5.0, 1.0]], [*[[POISON, POISON]] * 3, [7.0, 8.0]]])
LEFT_MASK = torch.tensor([[False, True, True, True], [False, False, False, True]])
SIDES = pytest.mark.parametrize(("hidden", "mask"), [(RIGHT, RIGHT_MASK), (LEFT, LEFT_MASK)], ids=["right", "left"])


@SIDES
def test_mean(hidden: torch.Tensor, mask: torch.Tensor) -> None:
    assert mean_pool(hidden, mask).tolist() == [[3.0, 3.0], [7.0, 8.0]]


@SIDES
def test_first(hidden: torch.Tensor, mask: torch.Tensor) -> None:
    assert cls_pool(hidden, mask).tolist() == [[1.0, 2.0], [7.0, 8.0]]


@SIDES
def test_last(hidden: torch.Tensor, mask: torch.Tensor) -> None:
    assert last_token_pool(hidden, mask).tolist() == [[5.0, 1.0], [7.0, 8.0]]


def test_a_mean_is_summed_in_float32() -> None:
    hidden = torch.ones((1, 4096, 1), dtype=torch.bfloat16)  # bfloat16 counts no further than 256
    pooled = mean_pool(hidden, torch.ones((1, 4096), dtype=torch.bool))
    assert pooled.dtype == torch.float32
    assert pooled.item() == 1.0


def test_normalised_to_length_one_and_zero_stays_zero() -> None:
    long, zero = l2_normalise(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist()
    assert long == pytest.approx([0.6, 0.8])
    assert zero == [0.0, 0.0]


def test_pool_takes_the_named_one() -> None:
    first = [pool(RIGHT, RIGHT_MASK, pooling)[0].tolist() for pooling in ("mean", "cls", "last")]
    assert first == [[3.0, 3.0], [1.0, 2.0], [5.0, 1.0]]
