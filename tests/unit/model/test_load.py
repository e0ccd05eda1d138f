"""From settings to models: plain ones, packages with adapters, and what is refused on the way."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrem_os.config import ModelSettings, ReasoningSettings
from lrem_os.errors import CheckpointError, ConfigError, DependencyMissing
from lrem_os.model import inventory, store
from lrem_os.model.composed import ComposedEmbedder
from lrem_os.model.fake import FakeEmbedder, FakeReasoner
from lrem_os.model.load import Models, load_embedder, load_reasoner
from lrem_os.model.package import Part, write_package
from lrem_os.types import Reasoner, ReasoningEmbedder

FAKE = ModelSettings(name="fake:16")
QUERIES = ["what do I put under a hot pot", "red leather handbag for work", "usb"]


def test_fakes_need_nothing() -> None:
    models = Models(FAKE, ReasoningSettings(name="fake:", samples=3))
    assert isinstance(models.reasoner, FakeReasoner)
    assert isinstance(models.reasoning_embedder, ComposedEmbedder)
    assert models.reasoning_embedder.identity == models.embedder.identity
    assert [len(samples) for samples in models.reasoner.reason(QUERIES)] == [3, 3, 3]


def test_no_reasoner_is_a_sentence_with_a_way_out() -> None:
    for use in (lambda: Models(FAKE, ReasoningSettings()).reasoning_embedder, lambda: load_reasoner(FAKE, _NONE)):
        with pytest.raises(ConfigError, match=r"reasoning\.name is not set, and fake:16 brings none") as caught:
            use()
        assert "reasoning.name" in (caught.value.hint or "")


_NONE = ReasoningSettings()


def test_the_reasoner_is_loaded_at_the_first_reasoning(tmp_path: Path) -> None:
    missing = ReasoningSettings(name=str(tmp_path / "nothing"))
    embedder = Models(FAKE, missing).reasoning_embedder
    np.testing.assert_array_equal(embedder.embed_queries(QUERIES), FakeEmbedder(16).embed_queries(QUERIES))
    with pytest.raises(CheckpointError, match="there is no folder"):
        embedder.embed_reasoned(QUERIES)


def test_an_embedder_that_can_reason_takes_both_places() -> None:
    given = ComposedEmbedder(FakeEmbedder(8), FakeReasoner(1), ReasoningSettings())
    models = Models(FAKE, ReasoningSettings(), embedder=given)
    assert models.embedder is models.reasoning_embedder is given
    assert models.reasoner is given.reasoner


def test_a_server_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(DependencyMissing) as caught:
        load_reasoner(FAKE, ReasoningSettings(name="m", backend="openai", url="http://127.0.0.1:9/v1"))
    assert "lrem-os[remote]" in (caught.value.hint or "")


@pytest.fixture
def trained(encoder_folder: Path, decoder_folder: Path, make_adapter: Callable[..., Path], tmp_path: Path) -> Path:
    """A package: BERT and Qwen, tiny, each with a random adapter."""
    parts = {}
    for part, base in (("embedder", encoder_folder), ("reasoner", decoder_folder)):
        adapter = make_adapter(base, tmp_path / f"{part}-run", base=str(base), causal=part == "reasoner")
        template = "keywords-1" if part == "reasoner" else ""
        parts[part] = Part(str(base), store.resolve(str(base)).revision, adapter=adapter, template=template)
    return write_package(tmp_path / "p", name="tiny", kind="composed", dimension=32, parts=parts).folder


def settings(folder: Path, **reasoning: Any) -> tuple[ModelSettings, ReasoningSettings]:
    """Return settings for the CPU in float32."""
    values = {"samples": 2, "max_tokens": 4, **reasoning}
    return ModelSettings(name=str(folder), device="cpu", dtype="float32"), ReasoningSettings(**values)


def test_a_package_loads_with_both_adapters(trained: Path, encoder_folder: Path, load: Callable[..., Any]) -> None:
    models = Models(*settings(trained))
    embedder: ReasoningEmbedder = models.reasoning_embedder
    assert embedder.identity["model"] == "lrem:tiny"
    plain = load(encoder_folder)
    assert embedder.identity["revision"] != plain.identity["revision"]
    direct = embedder.embed_queries(QUERIES)
    assert (np.abs(direct - plain.embed_queries(QUERIES)).max(axis=1) > 0.05).all()
    found = embedder.embed_reasoned(QUERIES)
    assert found.vectors.shape == (3, 32)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-5)
    assert [len(samples) for samples in found.reasonings] == [2, 2, 2]
    assert found.reason_ms > 0
    assert models.reasoner.identity["model"] == "lrem:tiny"


def test_an_adapter_for_queries_leaves_the_items_and_the_identity_to_the_base(
    trained: Path, encoder_folder: Path, load: Callable[..., Any]
) -> None:
    manifest = json.loads((trained / "lrem.json").read_text())
    manifest["embedder"]["side"] = "queries"
    (trained / "lrem.json").write_text(json.dumps(manifest))
    embedder, plain = load_embedder(*settings(trained)), load(encoder_folder)
    assert embedder.identity == plain.identity
    np.testing.assert_allclose(embedder.embed_items(QUERIES), plain.embed_items(QUERIES), atol=1e-6)
    assert (np.abs(embedder.embed_queries(QUERIES) - plain.embed_queries(QUERIES)).max(axis=1) > 0.05).all()


def test_a_reasoner_with_its_own_adapter(
    decoder_folder: Path, make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    adapter = make_adapter(decoder_folder, tmp_path / "a", base="tiny-qwen", causal=True)
    model = ModelSettings(device="cpu", dtype="float32")
    plain = ReasoningSettings(name=str(decoder_folder), samples=2, max_tokens=8)
    adapted = plain.model_copy(update={"adapter": adapter})
    one, other = load_reasoner(model, plain), load_reasoner(model, adapted)
    assert [[s.text for s in row] for row in one.reason(QUERIES)] != [
        [s.text for s in row] for row in other.reason(QUERIES)
    ]
    assert one.identity != other.identity


def test_what_is_told_about_a_package(trained: Path) -> None:
    row = inventory.describe(str(trained))
    assert (row["name"], row["source"], row["kind"], row["width"]) == ("tiny", "package", "composed", 32)
    assert row["embedder"].endswith("+ adapter")
    assert json.loads(json.dumps(row)) == row == inventory.pull(str(trained))
    assert inventory.missing(str(trained)) == []


def test_a_base_that_has_changed_is_refused(trained: Path, encoder_folder: Path) -> None:
    config = json.loads((encoder_folder / "config.json").read_text())
    (encoder_folder / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.2}))
    with pytest.raises(CheckpointError, match=r"embedder of tiny was trained on .*tiny-bert, revision"):
        load_embedder(*settings(trained))


def test_another_dimension_than_the_manifest_says_is_refused(trained: Path) -> None:
    manifest = json.loads((trained / "lrem.json").read_text())
    (trained / "lrem.json").write_text(json.dumps(manifest | {"dimension": 64}))
    with pytest.raises(CheckpointError, match="64 dimensions, and they have 32"):
        load_embedder(*settings(trained))


def test_a_unified_package_embeds_and_reasons(
    decoder_folder: Path, make_adapter: Callable[..., Path], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    from lrem_os.model.unified import add_special_tokens

    def extend(model: Any) -> dict[str, Any]:
        tokenizer = AutoTokenizer.from_pretrained(str(decoder_folder))
        num = len(tokenizer)
        add_special_tokens(model, tokenizer)
        return {"trainable_token_indices": {"embed_tokens": [num, num + 1, num + 2]}}

    adapter = make_adapter(decoder_folder, tmp_path / "a", base=str(decoder_folder), causal=True, prepare=extend)
    revision = store.resolve(str(decoder_folder)).revision
    parts = {"model": Part(str(decoder_folder), revision, adapter=adapter, template="unified-1")}
    folder = write_package(tmp_path / "u", name="one", kind="unified", dimension=32, parts=parts).folder
    models = Models(*settings(folder))
    embedder = models.embedder
    assert isinstance(embedder, ReasoningEmbedder)
    assert models.reasoner is embedder.reasoner
    assert models.reasoning_embedder is embedder
    assert embedder.embed_items(["Red bag"]).shape == (1, 32)
    assert [len(samples) for samples in embedder.embed_reasoned(QUERIES).reasonings] == [2, 2, 2]


@pytest.mark.parametrize("name", ["fake:", "tiny-qwen"])
def test_what_every_reasoner_promises(name: str, decoder_folder: Path) -> None:
    pytest.importorskip("torch")
    if name != "fake:":
        name = str(decoder_folder)
    reasoner: Reasoner = load_reasoner(*settings(Path("unused"), name=name, samples=3, temperature=1.0))
    long = "word " * 20_000
    found = reasoner.reason([*QUERIES, "", long])
    assert [len(samples) for samples in found] == [3] * 5
    assert json.loads(json.dumps(dict(reasoner.identity))) == dict(reasoner.identity)
    for query, samples in zip([*QUERIES, "", long], found, strict=True):
        for sample in samples:
            assert all(keyword and keyword == keyword.strip() and keyword not in query for keyword in sample.keywords)
            assert 0 <= sample.num_tokens <= 4
            assert 0 <= sample.confidence <= 1
    assert [s.keywords for s in reasoner.reason(QUERIES[::-1])[-1]] == [s.keywords for s in found[0]]  # in any batch
    assert reasoner.reason([]) == []
