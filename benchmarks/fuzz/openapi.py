"""Requests that schemathesis makes of the service's own OpenAPI description: good ones and bad ones."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import hypothesis
import schemathesis
from schemathesis import Case, GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [content_type_conformance, response_headers_conformance, response_schema_conformance, status_code_conformance]


@schemathesis.serializer("application/x-ndjson")
def _lines(_ctx: schemathesis.SerializationContext, value: Any) -> bytes:
    """Write what is made up for an ``_msearch``: a string as it is, anything else as JSON, which is wrong there."""
    return value.encode("utf-8", "replace") if isinstance(value, str) else json.dumps(value).encode()


def run(url: str, index: str, count: int, seed: int, seen: Callable[[Case, schemathesis.Response], str | None]) -> int:
    """Send about so many requests, alike for every operation; return how many it were.

    Args:
        url: Of the service.
        index: Put in place of half of the names that are made up.
        count: How many.
        seed: The same gives the same.
        seen: Told every answer; returns what is wrong with it.

    Raises:
        AssertionError: An answer is not as it is described.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what hypothesis and schemathesis think of the schema
        schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
        operations = [result.ok() for result in schema.get_all_operations()]
        sent = 0
        for operation in operations:
            for mode in GenerationMode:
                sent += _run_one(operation, mode, index, count // (2 * len(operations)), seed, seen)
    return sent


def _run_one(operation: Any, mode: Any, index: str, count: int, seed: int, seen: Any) -> int:
    sent = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=max(1, count),
        deadline=None,
        database=None,
        derandomize=False,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Case) -> None:
        nonlocal sent
        if "index" in case.path_parameters and sent % 2:
            case.path_parameters["index"] = index
        response = case.call(timeout=60)
        sent += 1
        wrong = seen(case, response)
        assert wrong is None, f"{wrong}\n{case.as_curl_command()}\n{response.status_code} {response.text[:500]}"
        try:
            case.validate_response(response, checks=CHECKS)
        except FailureGroup as exc:
            told = "\n".join(str(one) for one in exc.exceptions)
            raise AssertionError(f"{told}\n{case.as_curl_command()}\n{response.text[:500]}") from None

    try:
        ask()
    except hypothesis.errors.Unsatisfiable:  # an operation that cannot be asked wrongly
        return sent
    return sent
