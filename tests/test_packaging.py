"""What ships and how it is found: the wheel's contents, and ``lrem_os.ingest`` in every way a checkout is used.

Every check runs on a copy of the source tree, so a stale ``build/`` of the checkout cannot take part.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path

import pytest
import readme_renderer.markdown
import yaml
from packaging.requirements import Requirement
from trove_classifiers import classifiers

import lrem_os

ROOT = Path(__file__).parents[1]
FOLDERS = {
    "lrem_os": "lrem_os",
    "ingest": "lrem_os/ingest",
    "query_plugin": "lrem_os/query_plugin",
    "eval": "lrem_os/eval",
}
PARTS = ("lrem_os", "lrem_os.ingest", "lrem_os.query_plugin", "lrem_os.eval")
PRINT_FILES = f"import {', '.join(PARTS)}; print(*({', '.join(f'{part}.__file__' for part in PARTS)},), sep='\\n')"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a clean clone holds of the package."""
    target = tmp_path_factory.mktemp("tree")
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, target)
    return target


@pytest.fixture(scope="module")
def wheel(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip builds from the tree."""
    target = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(tree, target / "source")  # the build leaves files in it
    run(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        target,
        source,
        cwd=target,
    )
    (path,) = target.glob("*.whl")
    return path


def run(*command: object, cwd: Path) -> str:
    """Run with nothing of this process's import path; return what it prints."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environ["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def shipped_files(tree: Path) -> set[str]:
    """Return what the wheel must hold: every module, and every file that is no module (all of them are data)."""
    return {
        f"{target}/{path.relative_to(tree / folder).as_posix()}"
        for folder, target in FOLDERS.items()
        for path in (tree / folder).rglob("*")
        if path.is_file()
    }


def test_the_wheel_holds_the_four_folders_and_nothing_else(tree: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = {name.split("/", 1)[1] for name in archive.namelist() if ".dist-info/" in name}
    assert names == shipped_files(tree)
    assert {"METADATA", "entry_points.txt", "licenses/LICENSE"} <= metadata


def test_the_unzipped_wheel_imports(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    lines = run(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(site)!r}); {PRINT_FILES}", cwd=tmp_path)
    assert [Path(line).parent for line in lines.splitlines()] == [site / part.replace(".", "/") for part in PARTS]


def in_checkout(tree: Path) -> list[Path]:
    return [tree / part.rpartition(".")[2] / "__init__.py" for part in PARTS]


def test_python_at_the_root_of_a_checkout_finds_all_parts(tree: Path) -> None:
    lines = run(sys.executable, "-c", PRINT_FILES, cwd=tree).splitlines()
    assert [Path(line) for line in lines] == in_checkout(tree)


def test_plain_pytest_in_a_checkout_finds_all_parts(tree: Path, tmp_path: Path) -> None:
    clone = shutil.copytree(tree, tmp_path / "clone")
    (clone / "tests").mkdir()
    expected = [str(path) for path in in_checkout(clone)]
    files = ", ".join(f"{part}.__file__" for part in PARTS)
    (clone / "tests" / "test_parts.py").write_text(
        f"import {', '.join(PARTS)}\n\ndef test_parts():\n    assert [{files}] == {expected}\n"
    )
    script = Path(sys.executable).with_name("pytest")  # the command puts no working directory on sys.path
    assert "1 passed" in run(script, "-p", "no:cacheprovider", cwd=clone)


@pytest.fixture(scope="module")
def editable(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkout and the folder that ``pip install -e`` of it fills."""
    target = tmp_path_factory.mktemp("editable")
    clone, site = shutil.copytree(tree, target / "clone"), target / "site"
    build = f"from setuptools import build_meta; build_meta.build_editable({str(target)!r})"
    run(sys.executable, "-c", build, cwd=clone)
    (path,) = target.glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(site)
    return clone, site


def run_installed(site: Path, code: str) -> str:
    """Run with this one folder as site-packages (``-S``: without this environment's), away from the checkout."""
    return run(sys.executable, "-S", "-c", f"import site; site.addsitedir({str(site)!r}); {code}", cwd=site.parent)


def test_an_editable_install_finds_all_parts(editable: tuple[Path, Path]) -> None:
    clone, site = editable
    assert [Path(line) for line in run_installed(site, PRINT_FILES).splitlines()] == in_checkout(clone)


def test_an_editable_install_leaks_no_top_level_names(editable: tuple[Path, Path]) -> None:
    find = "from importlib.util import find_spec; print(*map(find_spec, ('ingest', 'query_plugin', 'eval')))"
    assert run_installed(editable[1], find) == "None None None\n"


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    """What the wheel says of itself."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode())


def test_the_metadata_is_complete(metadata: Message) -> None:
    assert metadata["Name"] == "lrem-os"
    assert metadata["Version"] == lrem_os.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata["Requires-Python"] == ">=3.11"
    assert all(metadata[name] for name in ("Summary", "Keywords", "Author"))
    told = metadata.get_all("Classifier") or []
    assert told
    assert [one for one in told if one not in classifiers] == []
    assert not [one for one in told if one.startswith("License ::")]  # PEP 639: the expression says it


def test_the_long_description_renders(metadata: Message) -> None:
    assert metadata["Description-Content-Type"] == "text/markdown"
    page = readme_renderer.markdown.render(str(metadata.get_payload()), variant="GFM")
    assert page is not None
    assert re.search(r"<h1[^>]*>lrem-os<", page)
    assert "<table>" in page


def test_an_extra_asks_only_for_what_exists_and_is_of_some_use(metadata: Message) -> None:
    extras = set(metadata.get_all("Provides-Extra") or [])
    wanted: dict[str, list[Requirement]] = {extra: [] for extra in extras}
    for requirement in map(Requirement, metadata.get_all("Requires-Dist") or []):
        if requirement.name == "lrem-os":
            assert requirement.extras <= extras, requirement
        for extra in extras:
            if requirement.marker is not None and requirement.marker.evaluate({"extra": extra}):
                wanted[extra].append(requirement)
    assert [extra for extra, requirements in wanted.items() if not requirements] == []
    everything = next(one.extras for one in wanted["all"] if one.name == "lrem-os")
    assert {"model", "remote", "train", "node", "serve", "eval", "parquet"} <= everything
    assert not everything & {"vllm", "test"}  # an own build of torch, and tools of developers


def test_the_plain_install_is_light(metadata: Message) -> None:
    plain = {one.name for one in map(Requirement, metadata.get_all("Requires-Dist") or []) if one.marker is None}
    assert not plain & {"torch", "transformers", "fastapi", "scikit-learn", "scipy", "pyarrow", "openai"}


def test_the_source_distribution_builds_the_same_wheel(tree: Path, wheel: Path, tmp_path: Path) -> None:
    source = shutil.copytree(tree, tmp_path / "source")
    run(sys.executable, "-m", "build", "--sdist", "--no-isolation", "-o", tmp_path / "dist", source, cwd=tmp_path)
    (packed,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (folder,) = (tmp_path / "unpacked").iterdir()
    assert {"LICENSE", "README.md", "pyproject.toml", "PKG-INFO"} <= {path.name for path in folder.iterdir()}
    build = ("-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, folder)
    run(sys.executable, *build, cwd=tmp_path)
    (again,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert set(first.namelist()) == set(second.namelist())


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)  # what its format demands
    assert citation["version"] == lrem_os.__version__
    assert citation["license"] == "Apache-2.0"
