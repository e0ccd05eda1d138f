"""A result that may be shown to others: no query text, no keywords about one, ids that cannot be traced back."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from lrem_os.eval.logs import keyed_hash
from lrem_os.eval.result import EvalResult, QueryValues, RunResult

Value = TypeVar("Value")
Hash = Callable[[str], str]


KEY_VARIABLE = "LREM_OS_EVAL_KEY"


def key_from(environment: Mapping[str, str]) -> bytes:
    """Return the key that the environment gives; empty for none. Raises ``InputError`` for one that is too short."""
    key = environment.get(KEY_VARIABLE, "").encode()
    if key:
        keyed_hash("", key)
    return key


def redact(result: EvalResult, *, key: bytes = b"") -> EvalResult:
    """Return the result without texts and keywords, and with a keyed hash in place of every query id.

    Curve and robustness are as handed in: the first holds no query, the second is redacted where it is made.

    Args:
        result: As evaluated.
        key: 16 bytes or more; the same key gives the same ids, so that two reports can be compared. Empty: a key that
            nobody keeps.

    Raises:
        InputError: The key is too short.
    """
    key = key or secrets.token_bytes(32)
    hashes: dict[str, str] = {}

    def hashed(query_id: str) -> str:
        return hashes.setdefault(query_id, keyed_hash(query_id, key))

    card = replace(
        result.card,
        unjudged=_ids(result.card.unjudged, hashed),
        without_relevant=_ids(result.card.without_relevant, hashed),
    )
    queries = tuple(replace(query, query_id=hashed(query.query_id), text="") for query in result.queries)
    runs = {name: _redact_run(run, hashed) for name, run in result.runs.items()}
    return replace(result, runs=runs, card=card, queries=queries)


def _redact_run(run: RunResult, hashed: Hash) -> RunResult:
    per_query = run.per_query
    return replace(
        run,
        per_query=per_query.renamed(hashed) if isinstance(per_query, QueryValues) else _keys(per_query, hashed),
        missing=_ids(run.missing, hashed),
        movers={
            measure: tuple(replace(mover, query_id=hashed(mover.query_id)) for mover in movers)
            for measure, movers in run.movers.items()
        },
        traces={query_id: replace(trace, keywords=()) for query_id, trace in _keys(run.traces, hashed).items()},
    )


def _ids(query_ids: Iterable[str], hashed: Hash) -> tuple[str, ...]:
    return tuple(map(hashed, query_ids))


def _keys(values: Mapping[str, Value], hashed: Hash) -> dict[str, Value]:
    return {hashed(query_id): value for query_id, value in values.items()}
