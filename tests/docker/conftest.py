"""What ``docker/build`` makes, built once: the tests run what the containers run, without Docker."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def tool(distribution: str, path: str) -> str:
    """Return a program that a package of the extra ``test`` brings, by the end of its path."""
    return next(str(file.locate()) for file in metadata.files(distribution) or [] if str(file).endswith(path))


@dataclass(frozen=True, slots=True)
class Image:
    """The folder that the Dockerfile copies into the image."""

    folder: Path

    def run(self, program: str, *args: object, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a program of it, with nothing of this process's environment but what is given."""
        return subprocess.run(
            [str(self.folder / "bin" / program), *map(str, args)],
            env={"PATH": f"{self.folder / 'bin'}:/usr/bin:/bin", "HOME": str(self.folder), **environ},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
        )


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Image:
    """The image without the extras that bring models: neither torch nor a server is in it."""
    folder = tmp_path_factory.mktemp("image") / "lrem-os"
    done = subprocess.run(
        [ROOT / "docker" / "build", folder],
        env={**os.environ, "EXTRAS": "docker", "PYTHON": sys.executable, "PYTHONPATH": "", "PIP_NO_COMPILE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Image(folder)
