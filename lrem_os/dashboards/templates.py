"""Index templates of every index that lrem-os writes beside the catalogs, and the policy that ends old records. Pure.

What the fields are is decided where the documents are made: behaviour records in ``query_plugin``, evaluations in
``eval``, ingests in ``ingest``.

Source: OpenSearch 3.6 documentation, "Index templates", "Index State Management", "ISM policies".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lrem_os.errors import InputError
from lrem_os.eval import publish
from lrem_os.ingest.recording import RECORDS, record_template
from lrem_os.query_plugin.service.ubi_records import EVENTS, MAPPINGS, QUERIES, Index

UBI: tuple[Index, ...] = (QUERIES, EVENTS)
POLICY = "lrem-os-behaviour"
_PRIORITY = 200  # above what a cluster has for everything
_AGE = re.compile(r"[1-9][0-9]{0,4}[dh]")
_PARTS = 10  # indices that a span of retention is cut into, so that what is kept too long is a tenth of it


def build_templates(eval_prefix: str = publish.DEFAULT_PREFIX, *, rolled: bool = False) -> dict[str, dict[str, Any]]:
    """Return composable index templates by name: ``PUT _index_template/{name}``.

    Args:
        eval_prefix: Of the indices that evaluations are published to.
        rolled: Behaviour records go to indices that follow each other behind an alias.
    """
    found = {template_name(index): _template(_ubi_patterns(index), _ubi_body(index, rolled=rolled)) for index in UBI}
    found[RECORDS] = _template([RECORDS], record_template())
    return found | publish.build_templates(eval_prefix)


def template_name(index: Index) -> str:
    """Return the name of the template of a behaviour index.

    >>> template_name("ubi_queries")
    'lrem-os-ubi-queries'
    """
    return f"lrem-os-{index.replace('_', '-')}"


def first_index(index: Index) -> str:
    """Return the first of the indices that follow each other."""
    return f"{index}-000001"


def lrem_fields(index: Index) -> dict[str, Any]:
    """Return what an index that UBI itself made lacks: our fields."""
    return {"properties": {"lrem": MAPPINGS[index]["properties"]["lrem"]}}


def retention_policy(age: str) -> dict[str, Any]:
    """Return the policy that begins a new index now and then, and deletes what is older than ``age``.

    A document lives for ``age`` at least, and a tenth longer at most.
    """
    hours = _hours(age)
    part = f"{max(1, hours // _PARTS)}h"
    states = [
        {
            "name": "written",
            "actions": [{"rollover": {"min_index_age": part}}],
            "transitions": [{"state_name": "deleted", "conditions": {"min_rollover_age": f"{hours}h"}}],
        },
        {"name": "deleted", "actions": [{"delete": {}}], "transitions": []},
    ]
    patterns = [f"{index}-*" for index in UBI]
    return {
        "policy": {
            "description": f"Made by lrem-os: behaviour records are deleted after {age}.",
            "default_state": "written",
            "states": states,
            "ism_template": [{"index_patterns": patterns, "priority": _PRIORITY}],
        }
    }


def check_retention(age: str) -> str:
    """Return a span of retention. Raises ``InputError`` when it is none."""
    if not _AGE.fullmatch(age):
        raise InputError(f"the retention {age!r} is no span of time", hint="write it like 30d or 48h")
    return age


def _hours(age: str) -> int:
    return int(age[:-1]) * (24 if age.endswith("d") else 1)


def _ubi_patterns(index: Index) -> list[str]:
    return [index, f"{index}-*"]


def _ubi_body(index: Index, *, rolled: bool) -> dict[str, Any]:
    settings: dict[str, Any] = {"number_of_shards": 1, "auto_expand_replicas": "0-1"}
    if rolled:
        settings["plugins.index_state_management.rollover_alias"] = index
    return {"settings": settings, "mappings": MAPPINGS[index]}


def _template(patterns: list[str], body: Mapping[str, Any]) -> dict[str, Any]:
    return {"index_patterns": patterns, "priority": _PRIORITY, "template": dict(body)}
