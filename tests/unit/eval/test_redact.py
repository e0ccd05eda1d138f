from __future__ import annotations

import orjson
import pytest

from lrem_os.config import EvalSettings
from lrem_os.errors import InputError
from lrem_os.eval.evaluate import evaluate_runs
from lrem_os.eval.measures import parse_measures
from lrem_os.eval.redact import redact
from lrem_os.eval.report import notes, to_dict
from lrem_os.eval.result import EvalResult
from lrem_os.types import Hit, Query, Ranking, Trace

SECRETS = ("secret-id", "private bag", "confidential")
KEY = b"0123456789abcdef"


@pytest.fixture
def result() -> EvalResult:
    queries = [Query(f"secret-id-{n}", f"private bag {n}", "easy" if n else "qa", frequency=n + 1.0) for n in range(5)]
    qrels = {query.query_id: {"a": 1} for query in queries[:3]} | {"secret-id-3": {"a": 0}}
    good = {
        query.query_id: Ranking(
            (Hit("a", 1.0),), trace=Trace("reasoned", keywords=("confidential",), reasoning_tokens=7)
        )
        for query in queries[:2]
    }
    bad = {"secret-id-0": Ranking((Hit("x", 1.0),))}
    return evaluate_runs(
        {"good": good, "bad": bad},
        queries,
        qrels,
        parse_measures(["mrr@10"]),
        settings=EvalSettings(bootstrap=100),
        baseline="bad",
    )


def test_nothing_of_a_query_is_left(result: EvalResult) -> None:
    before = orjson.dumps(to_dict(result)).decode()
    assert all(secret in before for secret in SECRETS)
    after = redact(result)
    text = orjson.dumps(to_dict(after)).decode() + "\n".join(notes(after))
    assert not [secret for secret in SECRETS if secret in text]


def test_numbers_types_and_routes_stay_under_ids_that_fit_together(result: EvalResult) -> None:
    after = redact(result, key=KEY)
    assert after.runs["good"].overall == result.runs["good"].overall
    ids = dict(zip([q.query_id for q in result.queries], [q.query_id for q in after.queries], strict=True))
    assert len(set(ids.values())) == 5
    assert [(q.text, q.type, q.frequency) for q in after.queries][:2] == [("", "qa", 1.0), ("", "easy", 2.0)]
    for name, run in result.runs.items():
        hashed = after.runs[name]
        assert hashed.per_query == {ids[query_id]: row for query_id, row in run.per_query.items()}
        assert hashed.missing == tuple(ids[query_id] for query_id in run.missing)
    assert [m.query_id for m in after.runs["good"].movers["mrr@10"]] == [ids["secret-id-0"], ids["secret-id-1"]]
    assert after.runs["good"].traces[ids["secret-id-1"]] == Trace("reasoned", reasoning_tokens=7)
    assert after.card.without_relevant == (ids["secret-id-3"],)
    assert after.card.unjudged == (ids["secret-id-4"],)


def test_the_same_key_gives_the_same_ids_and_no_key_others_each_time(result: EvalResult) -> None:
    assert redact(result, key=KEY) == redact(result, key=KEY)
    assert redact(result).queries != redact(result).queries
    with pytest.raises(InputError, match="the key for hashed ids has 5 bytes"):
        redact(result, key=b"short")
