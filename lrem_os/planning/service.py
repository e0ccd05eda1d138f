"""``lrem-os serve`` as a process of its own, for as long as it is measured."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lrem_os.errors import ServiceError

_START_S = 300.0
_END_S = 60.0
_SAID = "lrem-os serves "


@contextlib.contextmanager
def running_service(
    values: Mapping[str, Any], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[tuple[str, int]]:
    """Run ``lrem-os serve`` as its users do, on a free port; yield its address and process, and end it afterwards.

    Args:
        values: Its configuration.
        folder: For the configuration, which only this user can read, and for what the service says.
        environment: Of the process; none: that of this one.

    Raises:
        ServiceError: It does not start; the message is its own, such as a missing extra.
    """
    config, log = folder / "lrem-os.yaml", folder / "serve.log"
    with open(config, "w", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        yaml.safe_dump(dict(values), file)
    command = [sys.executable, "-m", "lrem_os", "serve", "--port", "0", "-c", str(config)]
    environ = {**(os.environ if environment is None else environment), "PYTHONUNBUFFERED": "1"}
    with log.open("w", encoding="utf-8") as told:
        process = subprocess.Popen(command, cwd=folder, stdout=told, stderr=told, env=environ)
        try:
            yield _address(process, log), process.pid
        finally:
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                raise ServiceError(f"the service did not end within {_END_S:g} s of SIGTERM") from None


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    give_up = time.monotonic() + _START_S
    while time.monotonic() < give_up and process.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
            if line.startswith(_SAID) and line.endswith("\n"):
                return line.removeprefix(_SAID).partition(",")[0]
        time.sleep(0.1)
    raise ServiceError(f"the service does not start: {log.read_text(encoding='utf-8')[-500:]}")
