"""What lies in examples/ runs as it stands, on a real node; the notebook with the real model."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lrem_os
from lrem_os.demo.tour import sample_files

EXAMPLES = Path(__file__).parents[2] / "examples"
pytestmark = pytest.mark.opensearch


def run(command: list[str], folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    surroundings = os.environ | env | {"HAYSTACK_TELEMETRY_ENABLED": "False", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *command], cwd=folder, env=surroundings, capture_output=True, text=True)


@pytest.fixture
def shop(opensearch_url: str, index_name: str, tmp_path: Path) -> Path:
    """A folder whose lrem-os.yaml names the sample shop."""
    (tmp_path / "lrem-os.yaml").write_text(
        f"search:\n  hosts: ['{opensearch_url}']\nindex:\n  name: {index_name}\nmodel:\n  name: 'fake:64'\n"
    )
    settings = lrem_os.load_settings(tmp_path / "lrem-os.yaml").settings
    with sample_files() as files:
        lrem_os.ingest_catalog(settings, [str(files.catalog)])
    return tmp_path


@pytest.mark.parametrize("name", ["haystack_pipeline.py", "langchain_retriever.py"])
def test_a_script_writes_a_prompt_with_what_search_finds(shop: Path, name: str) -> None:
    done = run([str(EXAMPLES / name), "cast", "iron", "skillet"], shop)
    assert done.returncode == 0, done.stderr
    settings = lrem_os.load_settings(shop / "lrem-os.yaml").settings
    found = lrem_os.search_products(settings, "cast iron skillet", top_k=3).hits
    assert [line for line in done.stdout.splitlines() if line.startswith("- ")] == [
        f"- {hit.source['title']} ({hit.doc_id})" for hit in found
    ]
    assert done.stdout.startswith("Recommend one of these products for: cast iron skillet\n")


@pytest.mark.parametrize("name", ["haystack_pipeline.py", "langchain_retriever.py"])
def test_a_script_says_what_is_wrong_in_a_sentence(opensearch_url: str, tmp_path: Path, name: str) -> None:
    (tmp_path / "lrem-os.yaml").write_text(
        f"search:\n  hosts: ['{opensearch_url}']\nindex:\n  name: not-there\nmodel:\n  name: 'fake:8'\n"
    )
    done = run([str(EXAMPLES / name)], tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "not-there" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.model
def test_the_notebook_runs_and_draws(opensearch_url: str, index_name: str, tmp_path: Path) -> None:
    book = tmp_path / "evaluation.ipynb"
    text = (EXAMPLES / book.name).read_text(encoding="utf-8")
    assert "lrem-os-notebook" in text
    book.write_text(text.replace("lrem-os-notebook", index_name), encoding="utf-8")
    done = run(
        ["-c", "from nbclient.cli import main; main()", "--inplace", "--timeout=600", str(book)],
        tmp_path,
        LREM_OS__SEARCH__HOSTS=f'["{opensearch_url}"]',
    )
    assert done.returncode == 0, done.stderr[-3000:]
    cells = [cell for cell in json.loads(book.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    printed = "".join("".join(out.get("text", "")) for cell in cells for out in cell["outputs"])
    assert "400 rows read, 0 failed" in printed
    images = [
        out["data"]["image/png"] for cell in cells for out in cell["outputs"] if "image/png" in out.get("data", {})
    ]
    assert len(images) == 2
    assert all(base64.b64decode(image).startswith(b"\x89PNG") for image in images)


def test_the_committed_notebook_holds_what_it_drew() -> None:
    cells = json.loads((EXAMPLES / "evaluation.ipynb").read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    assert not any(out["output_type"] == "error" for cell in code for out in cell["outputs"])
    assert sum("image/png" in out.get("data", {}) for cell in code for out in cell["outputs"]) == 2
