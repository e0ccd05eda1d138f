"""The doctor's checks against a real cluster: what is well, what a killed load leaves behind, what does not fit."""

from __future__ import annotations

import pytest
from opensearchpy import OpenSearch

from lrem_os import api
from lrem_os.config import Settings
from lrem_os.doctor import Check, diagnose
from lrem_os.model.fake import FakeEmbedder
from lrem_os.search import index as indices
from lrem_os.search.mappings import build_index_body, build_mapping

pytestmark = pytest.mark.opensearch


@pytest.fixture
def settings(opensearch_url: str, index_name: str) -> Settings:
    return Settings.model_validate(
        {"search": {"hosts": [opensearch_url]}, "index": {"name": index_name}, "model": {"name": "fake:8"}}
    )


def make_index(client: OpenSearch, settings: Settings) -> str:
    identity = indices.index_identity(FakeEmbedder(8).identity, settings.catalog.embed)
    meta = indices.build_meta(identity, build_mapping(settings.catalog, settings.index, 8), building=False)
    name = f"{settings.index.name}-v1"
    body = build_index_body(settings.catalog, settings.index, 8, meta)
    indices.create_index(client, name, body, alias=settings.index.name)
    return name


def statuses(checks: list[Check], name: str) -> list[str]:
    return [check.status for check in checks if check.name == name]


def test_the_life_of_an_index(settings: Settings) -> None:
    client = api.connect(settings)
    checks = list(diagnose(settings))
    assert (statuses(checks, "cluster"), statuses(checks, "index")) == (["ok"], ["warn"])
    assert "there is no index" in checks[-1].message

    name = make_index(client, settings)
    assert statuses(list(diagnose(settings)), "index") == ["ok"]

    indices.begin_load(client, name)
    checks = list(diagnose(settings))
    assert statuses(checks, "index") == ["warn", "ok"]
    assert "lrem-os index restore" in [check.hint for check in checks if check.status == "warn"][-1]

    assert api.restore_indices(settings) == [name]
    assert statuses(list(diagnose(settings)), "index") == ["ok"]

    other = settings.model_copy(update={"model": settings.model.model_copy(update={"name": "fake:16"})})
    (last,) = [check for check in diagnose(other) if check.name == "index"]
    assert last.status == "fail"
    assert "dimension: 8 in the index, 16 now" in last.message
