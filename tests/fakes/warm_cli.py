"""A ``lrem-os`` that starts at once: one process imports everything, and forks for each command.

``python -m tests.fakes.warm_cli SOCKET`` is that process. ``write_shims`` makes the programs that ask it: what they run
is the real command line in a process of its own, with their arguments, folder, environment and standard streams.
``lrem-os serve`` is left running, and the shim ends when it answers; its process id goes to the file ``$WARM_PIDS``.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrem_os.config import ModelSettings
    from lrem_os.types import Embedder, Reasoner

HEAVY = (
    *("torch", "transformers.models.llama.modeling_llama", "peft", "ranx", "scipy.stats", "uvicorn", "fastapi"),
    *("lrem_os.api", "lrem_os.doctor", "lrem_os.query_plugin.service.app"),
)
_SHIM = """#!{python} -SE
import json, os, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({address!r})
request = json.dumps([[{name!r}, *sys.argv[1:]], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(connection, [len(request).to_bytes(4, "big")], [0, 1, 2])
connection.sendall(request)
answer = connection.recv(1)
sys.exit(answer[0] if answer else 70)
"""


def write_shims(folder: Path, address: str) -> None:
    """Write programs called lrem-os and python that ask the process listening there."""
    for name in ("lrem-os", "python"):
        shim = folder / name
        shim.write_text(_SHIM.format(python=sys.executable, address=address, name=name))
        shim.chmod(0o755)


def _import_everything() -> None:
    _keep_loaded()
    for name in HEAVY:
        importlib.import_module(name)


def _keep_loaded() -> None:
    """Load the configured models here, once: the commands find them in the memory that they were forked with."""
    from lrem_os.config import load_settings
    from lrem_os.model import load

    settings = load_settings().settings
    embed, reason = load.load_embedder, load.load_reasoner
    embedder, reasoner = embed(settings.model), reason(settings.model, settings.reasoning)

    def load_embedder(asked: ModelSettings, *args: Any) -> Embedder:
        return embedder if asked == settings.model else embed(asked, *args)

    def load_reasoner(*asked: Any) -> Reasoner:
        return reasoner if asked == (settings.model, settings.reasoning) else reason(*asked)

    load.load_embedder, load.load_reasoner = load_embedder, load_reasoner


def _listen(address: str) -> int:
    """Fork for every request; return, in the process of a command, its exit code."""
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those that wait for the commands
    while True:
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _handle(connection)
        connection.close()


def _handle(connection: socket.socket) -> int:
    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    request = connection.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
    arguments, folder, environment = json.loads(request)
    process = os.fork()
    if process == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        return _run(arguments)
    for stream in streams:
        os.close(stream)
    is_service = arguments[:2] == ["lrem-os", "serve"] and "--help" not in arguments
    code = _wait_ready(process, environment) if is_service else _wait(process)
    with suppress(BrokenPipeError):  # whoever asked was ended
        connection.sendall(bytes([code & 255]))
    return 0


def _run(arguments: list[str]) -> int:
    if arguments[0] == "lrem-os":
        from lrem_os.cli import main

        sys.argv = arguments
        sys.modules["__main__"].__package__ = None  # else usage errors name this module as the program
        main()
    elif arguments[1:] and arguments[1].endswith(".py"):
        sys.argv = arguments[1:]
        runpy.run_path(arguments[1], run_name="__main__")
    else:
        os.execv(sys.executable, [sys.executable, *arguments[1:]])
    return 0


def _wait(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def _wait_ready(process: int, environment: dict[str, str]) -> int:
    with open(environment["WARM_PIDS"], "a", encoding="utf-8") as file:
        print(process, file=file)
    address = f"http://127.0.0.1:{environment['LREM_OS__SERVE__PORT']}/ready"
    while True:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        try:
            urllib.request.urlopen(address, timeout=5).close()
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
        else:
            return 0


if __name__ == "__main__":
    _import_everything()
    sys.exit(_listen(sys.argv[1]))
