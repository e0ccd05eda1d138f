from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from lrem_os.cli.node import node
from lrem_os.cli.node_progress import node_progress
from lrem_os.errors import ConfigError
from lrem_os.node import cluster, local
from lrem_os.node.local import RunningNode
from lrem_os.node.progress import Progress

RUNNING = RunningNode(
    name="two",
    url="http://127.0.0.1:9400",
    pid=1234,
    port=9400,
    version="3.6.0",
    plugins=("ml",),
    heap_mb=512,
    java_home="/java",
    home=Path("/cache/nodes/two"),
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LREM_OS_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def test_the_options_of_up_override_the_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lrem-os.yaml").write_text("node:\n  port: 9300\n  heap_mb: 2048\n")
    seen: list[object] = []

    def start(settings: object, **rest: object) -> tuple[RunningNode, ...]:
        seen.extend([settings, rest["with_ml"], rest["fetch_java"]])
        return (RUNNING,)

    monkeypatch.setattr(cluster, "start_nodes", start)
    result = CliRunner().invoke(node, ["up", "--name", "two", "--port", "9400", "--with", "ml"])
    assert result.output == "OpenSearch 3.6.0 runs at http://127.0.0.1:9400 (node two, process 1234)\n"
    settings, with_ml, fetch_java = seen
    assert (settings.name, settings.port, settings.heap_mb) == ("two", 9400, 2048)  # type: ignore[attr-defined]
    assert (with_ml, fetch_java) == (True, False)


def test_up_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "start_nodes", lambda settings, **rest: (RUNNING,))
    values = json.loads(CliRunner().invoke(node, ["up", "--json"]).output)
    assert values["url"] == "http://127.0.0.1:9400"
    assert values["plugins"] == ["ml"]


@pytest.mark.parametrize("option", ["--port=80", "--heap-mb=1", "--name=../etc"])
def test_a_value_out_of_range_is_refused_as_in_the_configuration(option: str) -> None:
    result = CliRunner().invoke(node, ["up", option])
    assert isinstance(result.exception, ConfigError)


def test_status_of_a_running_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_nodes", lambda settings: (RUNNING,))
    monkeypatch.setattr(local, "node_health", lambda running: "green")
    result = CliRunner().invoke(node, ["status"], standalone_mode=False)
    assert result.return_value == 0
    lines = dict(line.split(maxsplit=1) for line in result.output.splitlines() if len(line.split()) == 2)
    assert lines["health"] == "green"
    assert lines["url"] == "http://127.0.0.1:9400"
    assert lines["plugins"] == "ml"


def test_status_of_a_node_that_does_not_run() -> None:
    result = CliRunner().invoke(node, ["status", "--json"], standalone_mode=False)
    assert result.return_value == 1
    assert json.loads(result.output) == {"name": "default", "running": False}


def test_reset_without_a_terminal_needs_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "reset_nodes", lambda settings: pytest.fail("deleted"))
    result = CliRunner().invoke(node, ["reset"])
    assert result.exit_code == 2
    assert "say --yes" in result.output


def test_progress_without_a_terminal_is_a_line_a_quarter(capsys: pytest.CaptureFixture[str]) -> None:
    with node_progress() as show:
        for percent in range(101):
            show(Progress("fetching x", percent * 1_000_000, 100_000_000))
        show(Progress("unpacking"))
        show(Progress("unpacking"))
    lines = capsys.readouterr().err.splitlines()
    assert lines == [*(f"fetching x {quarter} % of 100.0 MB" for quarter in (0, 25, 50, 75, 100)), "unpacking"]
