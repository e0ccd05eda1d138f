"""A tiny shop and tiny models, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import training


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from the user's cache."""
    monkeypatch.setenv("LREM_OS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training.write_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    return training.write_causal(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("peft")
    return training.write_encoder(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture
def make_recipe(shop: Path, causal: Path, encoder: Path, tmp_path: Path) -> Callable[..., Any]:
    """Return a function: stage and overrides to a checked recipe."""

    def make(stage: str, *overrides: str) -> Any:
        from lrem_os.train.recipes import load_recipe

        values = training.recipe_values(stage, shop, encoder if stage == "embedder" else causal, encoder)
        return load_recipe(training.write_recipe(tmp_path / f"{stage}.yaml", values), overrides)

    return make
