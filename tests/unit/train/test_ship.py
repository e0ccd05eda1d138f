"""Two training runs become one model that loads, and whose item side is the base's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("accelerate")


def test_two_runs_become_a_model_that_loads(
    make_recipe: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lrem_os.config import ModelSettings
    from lrem_os.errors import ConfigError
    from lrem_os.model.load import load_embedder
    from lrem_os.train.run import train
    from lrem_os.train.ship import ship_runs

    lora = ["lora={rank: 4, alpha: 4}", "optimisation.max_steps=3"]
    embedder = make_recipe("embedder", "options.items=frozen", *lora)
    train(embedder, tmp_path / "embedder")
    train(make_recipe("reasoner", *lora), tmp_path / "reasoner")
    made = ship_runs(tmp_path / "shop", "shop", embedder=tmp_path / "embedder", reasoner=tmp_path / "reasoner")
    assert made.parts["embedder"].side == "queries"
    settings = ModelSettings(device="cpu", dtype="float32", name=str(tmp_path / "shop"))
    tuned, base = load_embedder(settings), load_embedder(settings.model_copy(update={"name": embedder.base.name}))
    assert tuned.identity == base.identity
    assert tuned.dimension == made.dimension
    np.testing.assert_allclose(tuned.embed_items(["red bag"]), base.embed_items(["red bag"]), atol=1e-6)
    assert np.abs(tuned.embed_queries(["red bag"]) - base.embed_queries(["red bag"])).max() > 1e-4
    with pytest.raises(ConfigError, match="must be a run of the stage embedder"):
        ship_runs(tmp_path / "no", "no", embedder=tmp_path / "reasoner", reasoner=tmp_path / "embedder")
