from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lrem_os.model.batches import MIN_BATCH_TOKENS, plan_batches, share_tokens

LENGTHS = st.lists(st.integers(1, 300), max_size=60)


@given(LENGTHS, st.integers(1, 1000))
def test_every_row_once_within_the_budget_longest_first(lengths: list[int], budget: int) -> None:
    batches = plan_batches(lengths, budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[row] for row in batch) * len(batch) <= budget
    in_order = [lengths[row] for batch in batches for row in batch]
    assert in_order == sorted(lengths, reverse=True)


@given(LENGTHS.filter(bool), st.integers(300, 1000))
def test_no_batch_could_take_the_next_row(lengths: list[int], budget: int) -> None:
    batches = plan_batches(lengths, budget)
    assert all(lengths[batch[0]] * (len(batch) + 1) > budget for batch in batches[:-1])


@given(st.integers(0, 10**6), st.integers(64, 10**5), st.integers(1, 128))
def test_share(num_tokens: int, batch_tokens: int, num_workers: int) -> None:
    share = share_tokens(num_tokens, batch_tokens, num_workers)
    assert min(batch_tokens, MIN_BATCH_TOKENS) <= share <= batch_tokens
    if share < batch_tokens and share > MIN_BATCH_TOKENS:
        assert num_tokens / share >= num_workers  # enough for everybody


def test_one_worker_gets_the_whole_budget() -> None:
    assert share_tokens(100, 2048, 1) == 2048
