from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lrem_os.cli import cli
from lrem_os.config import Settings
from lrem_os.connecting import service_url
from lrem_os.errors import ConfigError, IndexMissing, Unsupported
from tests.fakes.ml_commons import ENDPOINTS, FakeMlCommons
from tests.fakes.opensearch import Index

Invoke = Callable[..., Result]
KEY = "key-of-the-service"


@pytest.fixture
def fake() -> Iterator[FakeMlCommons]:
    with FakeMlCommons() as fake:
        mapping = {"properties": {"lrem_vector": {"type": "knn_vector", "dimension": 8}, "title": {"type": "text"}}}
        fake.indices["shop-v1"] = Index(mapping, {}, {"shop"})
        yield fake


@pytest.fixture
def invoke(fake: FakeMlCommons, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Invoke:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LREM_OS__SEARCH__HOSTS", f"[{fake.url}]")
    monkeypatch.setenv("LREM_OS__INDEX__NAME", "shop")
    monkeypatch.setenv("LREM_OS__CONNECT__API_KEY", KEY)
    return lambda *args: CliRunner().invoke(cli, ["connect", *args])


def test_it_says_what_it_did_and_how_to_use_it(fake: FakeMlCommons, invoke: Invoke) -> None:
    result = invoke()
    assert result.exit_code == 0, result.output
    assert [line.split()[0] for line in result.stdout.splitlines()[:4]] == ["created"] * 4
    assert "?search_pipeline=lrem-os" in result.stdout
    (connector,) = fake.ml.connectors.values()
    assert connector["actions"][0]["url"] == "http://127.0.0.1:8099/v1/embeddings"
    assert connector["credential"] == {"key": KEY}
    assert KEY not in result.output
    again = invoke("--json")
    assert json.loads(again.stdout)["changed"] is False


def test_a_dry_run_shows_requests_and_sends_none(fake: FakeMlCommons, invoke: Invoke) -> None:
    result = invoke("--dry-run", "--ingest-field", "title", "--default")
    assert "POST /_plugins/_ml/connectors/_create\n{" in result.stdout
    assert "PUT /_ingest/pipeline/lrem-os" in result.stdout
    assert "PUT /shop-v1/_settings" in result.stdout
    assert '"key": "********"' in result.stdout
    assert KEY not in result.output
    assert fake.ml.connectors == {}
    shown = json.loads(invoke("--dry-run", "--json").stdout)
    assert (shown["dry_run"], shown["changed"]) == (True, True)
    invoke()
    assert invoke("--dry-run").stderr == "nothing would be sent\n"


def test_a_check_fails_with_exit_code_1(invoke: Invoke) -> None:
    result = invoke("--check")
    assert result.exit_code == 1
    assert result.stdout.startswith("fail  registered")
    assert "→ `lrem-os connect`" in result.stdout
    invoke()
    result = invoke("--check", "--json")
    assert result.exit_code == 0
    assert [finding["name"] for finding in json.loads(result.stdout)] == ["registered", "query", "passage", "search"]


def test_remove(fake: FakeMlCommons, invoke: Invoke) -> None:
    invoke("--default")
    assert "DELETE /_search/pipeline/lrem-os" in invoke("--remove", "--dry-run").stdout
    assert fake.ml.models
    result = invoke("--remove")
    assert {line.split()[0] for line in result.stdout.splitlines()} == {"deleted"}
    assert (fake.ml.models, fake.ml.connectors, fake.ml.groups, fake.pipelines) == ({}, {}, {}, {})
    assert invoke("--remove").stderr == "nothing is registered\n"


@pytest.mark.parametrize(
    "args", [("--check", "--remove"), ("--check", "--dry-run"), ("--check", "--allow"), ("--remove", "--default")]
)
def test_options_that_exclude_each_other(invoke: Invoke, args: tuple[str, ...]) -> None:
    assert invoke(*args).exit_code == 2


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("localhost:8099", "no address"),
        ("ftp://x", "no address"),
        ("http://u:p@x:1", "more than scheme, host and port"),
        ("http://x/v1", "more than scheme, host and port"),
        ("http://x:99999", "no address"),
        ("http://a b:1", "no address"),
    ],
)
def test_an_address_that_cannot_be_used(invoke: Invoke, url: str, told: str) -> None:
    result = invoke("--url", url)
    assert isinstance(result.exception, ConfigError)
    assert told in str(result.exception)


def test_what_the_cluster_lacks_is_said(fake: FakeMlCommons, invoke: Invoke) -> None:
    fake.defaults[ENDPOINTS] = []
    assert isinstance(invoke().exception, Unsupported)
    fake.plugins = ["opensearch-knn"]
    for args in ((), ("--check",), ("--remove",)):
        assert "no ML Commons" in str(invoke(*args).exception)
    fake.version = "3.4.0"
    assert "3.5 is the first" in str(invoke().exception)


def test_an_index_that_is_not_there(fake: FakeMlCommons, invoke: Invoke) -> None:
    fake.indices.clear()
    assert isinstance(invoke().exception, IndexMissing)


def settings(**sections: object) -> Settings:
    return Settings.model_validate(sections)


def test_the_service_is_looked_for_where_it_listens() -> None:
    assert service_url(settings()) == "http://127.0.0.1:8099"
    assert service_url(settings(serve={"host": "0.0.0.0", "port": 9000})) == "http://127.0.0.1:9000"
    assert service_url(settings(serve={"host": "::1"})) == "http://[::1]:8099"
    assert service_url(settings(serve={"cert_file": "a", "key_file": "b"})) == "https://127.0.0.1:8099"
    assert service_url(settings(connect={"url": "https://lrem.example.org/"})) == "https://lrem.example.org"


@pytest.mark.parametrize(
    "sections", [{"search": {"hosts": ["https://search.example.org:9200"]}}, {"serve": {"port": 0}}], ids=str
)
def test_an_address_that_cannot_be_known_is_asked_for(sections: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"connect\.url is not set") as error:
        service_url(settings(**sections))
    assert "set connect.url" in str(error.value.hint)


def test_the_first_key_of_the_service_is_taken(
    fake: FakeMlCommons, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LREM_OS__CONNECT__API_KEY")
    monkeypatch.setenv("LREM_OS__SERVE__API_KEYS", " first , second")
    invoke()
    (connector,) = fake.ml.connectors.values()
    assert connector["credential"] == {"key": "first"}
