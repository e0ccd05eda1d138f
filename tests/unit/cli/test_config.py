from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from lrem_os.cli import cli
from lrem_os.config import Settings
from lrem_os.config_fields import keys_of
from lrem_os.errors import ConfigError


@pytest.fixture(autouse=True)
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def call(*args: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, args)
    assert result.exit_code == code, result.output
    return result


def test_init_writes_a_file_that_check_accepts() -> None:
    assert call("init").stdout == "wrote lrem-os.yaml\n"
    num_keys = len(keys_of(Settings))
    assert f"lrem-os.yaml: {num_keys - 8} of {num_keys} keys set, all usable" in call("config", "check").stdout
    assert isinstance(call("init", code=1).exception, ConfigError)  # there already
    call("init", "--force")


def test_show_names_every_key_with_its_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LREM_OS__SEARCH__PASSWORD", "hunter2")
    monkeypatch.setenv("LREM_OS__SEARCH__USER", "me")
    lines = call("config", "show", "--set", "index.m=8").stdout.splitlines()
    assert [line.split()[0] for line in lines] == keys_of(Settings)
    words = [line.split(maxsplit=2) for line in lines]
    assert ["index.m", "8", "(--set)"] in words
    assert ["search.password", '"********"', "(env LREM_OS__SEARCH__PASSWORD)"] in words
    assert "hunter2" not in str(lines)


def test_show_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("my.yaml").write_text("index: {name: shop}")
    monkeypatch.setenv("LREM_OS__SEARCH__TOKEN", "hunter2")
    shown = json.loads(call("config", "show", "-c", "my.yaml", "--json").stdout)
    assert shown["file"] == "my.yaml"
    assert len(shown["hash"]) == 16
    assert shown["keys"]["index.name"] == {"value": "shop", "source": "my.yaml:1"}
    assert shown["keys"]["search.token"]["value"] == "********"


def test_check_refuses_and_lists_what_is_set() -> None:
    assert json.loads(call("config", "check", "--json", "--set", "index.m=8").stdout)["set"] == ["index.m"]
    assert isinstance(call("config", "check", "--set", "index.m=1", code=1).exception, ConfigError)
