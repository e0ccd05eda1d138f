from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lrem_os.cli import cli
from lrem_os.errors import ConfigError, SearchUnavailable
from tests.conftest import free_port
from tests.fakes.dashboards import FakeDashboards
from tests.fakes.saved_objects import read_objects


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server() -> Iterator[FakeDashboards]:
    with FakeDashboards() as fake:
        yield fake


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["dashboards", *arguments])


def done(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_dry_run_asks_nobody_and_writes_the_file(empty_folder: Path) -> None:
    result = run("install", "--dry-run", "--dashboards-url", f"http://127.0.0.1:{free_port()}")
    assert result.exit_code == 0, result.output
    assert "nothing was sent" in result.output
    assert "lrem-os: Traffic and routes" in result.output
    objects = read_objects((empty_folder / "lrem-os-dashboards.ndjson").read_bytes())
    assert sum(kind == "dashboard" for kind, _ in objects) == 4


def test_a_dry_run_in_json(empty_folder: Path) -> None:
    told = done("update", "--dry-run", "-o", "x.ndjson", "--workspace", "ops", "--retention", "30d")
    assert told["file"] == "x.ndjson"
    assert len(told["objects"]) == len(read_objects((empty_folder / "x.ndjson").read_bytes()))
    assert all(one["id"].startswith("lrem-os-ops-") for one in told["objects"])
    settings = told["templates"]["lrem-os-ubi-queries"]["template"]["settings"]
    assert settings["plugins.index_state_management.rollover_alias"] == "ubi_queries"


def test_install_update_export_remove(server: FakeDashboards, empty_folder: Path) -> None:
    to = ("--dashboards-url", server.url, "--no-templates")
    first = done("install", *to)
    assert done("install", *to)["unchanged"] == first["created"]
    updated = done("update", *to, "--gpu-hour-price", "2")["updated"]
    assert updated == ["visualization lrem-os-traffic-note", "visualization lrem-os-traffic-cost"]
    left = run("install", *to)
    assert "left alone: 2 objects" in left.output
    assert "lrem-os dashboards update overwrites them" in left.output
    exported = done("export", "--dashboards-url", server.url, "-o", "backup.ndjson")
    assert exported == {"file": "backup.ndjson", "objects": len(first["created"])}
    assert set(read_objects((empty_folder / "backup.ndjson").read_bytes())) == set(server.objects)
    gone = run("remove", "--dashboards-url", server.url, "--keep-templates")
    assert f"removed: {len(first['created'])} objects" in gone.output
    assert server.objects == {}
    assert "nothing of ours was there" in run("remove", "--dashboards-url", server.url, "--keep-templates").output


def test_a_tenant_of_the_command_line(server: FakeDashboards) -> None:
    done("install", "--dashboards-url", server.url, "--no-templates", "--tenant", "global")
    assert set(server.tenants) == {"global"}


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--retention", "1 week"), "dashboards.retention"),
        (("--dashboards-url", "dash:5601"), "dashboards.url is no address"),
        (("--workspace", "a/b"), "dashboards.workspace"),
        (("--gpu-hour-price", "free"), "eval.gpu_hour_price"),
        (("--set", "dashboards.user=ops"), "dashboards.password"),
    ],
)
def test_a_value_that_cannot_be_used(arguments: tuple[str, ...], part: str) -> None:
    result = run("install", "--dry-run", *arguments)
    assert isinstance(result.exception, ConfigError)
    assert part in str(result.exception)


def test_nobody_listens() -> None:
    result = run("install", "--dashboards-url", f"http://127.0.0.1:{free_port()}")
    assert isinstance(result.exception, SearchUnavailable)
    assert "--dashboards-url" in str(result.exception.hint)
