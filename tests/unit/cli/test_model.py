"""``lrem-os model``: what it prints and how it ends. What it does is tested in ``unit/model``."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from lrem_os.cli.model import model
from lrem_os.errors import CheckpointError, ConfigError

NAME = "pypi:tiny-model"
CONFIG = json.dumps({"architectures": ["BertModel"], "hidden_size": 8, "max_position_embeddings": 16})


@pytest.fixture(autouse=True)
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One model in a folder that pip looks into, and nowhere else."""
    with zipfile.ZipFile(tmp_path / "tiny_model-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in {"config.json": CONFIG, "tokenizer.json": "{}", "model.safetensors": "weights"}.items():
            wheel.writestr(f"tiny_model/{name}", content)
        wheel.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        wheel.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny_model-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("LREM_OS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.chdir(tmp_path)


def run(*args: str) -> Any:
    """Run a command; an error of ours is raised here, and turned into an exit code in ``lrem_os.cli.main``."""
    result = CliRunner().invoke(model, args, standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def test_pull_list_info_in_words(tmp_path: Path) -> None:
    assert "lrem-os model pull" in run("list").stderr
    folder = tmp_path / "home/models/pypi--tiny-model--newest/files"
    assert run("pull", NAME).stdout.startswith(f"{NAME} is in {folder} (0.0 MB), revision ")
    assert run("list").stdout == f"{NAME}\t1.0\t0.0 MB\t{folder}\n"
    lines = dict(line.split(maxsplit=1) for line in run("info", NAME).stdout.splitlines() if len(line.split()) == 2)
    assert (lines["pooling"], lines["max_tokens"], lines["width"]) == ("mean", "16", "8")


def test_pull_list_info_in_json() -> None:
    assert json.loads(run("list", "--json").stdout) == []
    pulled = json.loads(run("pull", NAME, "--json").stdout)
    assert sorted(pulled["files"]) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert json.loads(run("list", "--json").stdout) == [pulled]
    assert json.loads(run("info", NAME, "--json").stdout).items() >= pulled.items()


def test_without_a_name_it_is_the_configured_model(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text(f"model: {{name: '{NAME}', revision: '1.0'}}")
    assert json.loads(run("pull", "-c", "my.yaml", "--json").stdout)["path"].endswith("pypi--tiny-model--1.0/files")
    assert NAME in run("info", "--set", f"model.name={NAME}", "--set", "model.revision=1.0").stdout


def test_info_does_not_fetch() -> None:
    with pytest.raises(CheckpointError, match="not in the cache"):
        run("info", NAME)
    assert run("list").stdout == ""


def test_what_cannot_be_pulled() -> None:
    with pytest.raises(ConfigError, match="built in"):
        run("pull", "fake:8")
    with pytest.raises(click.NoSuchOption):
        run("pull", "--trust-remote-code")
